"""Time the prediction of a folder against its lower bound, and against OpenSoundscape, on the CPU.

    python benchmarks/prediction.py [--rounds 5] [--files 12] [--no-rival]
    python benchmarks/prediction.py --day
    python benchmarks/prediction.py --gpu [--rounds 3] [--files 4000]

Soundscapes of a minute, as OGG at 32 kHz and as 16-bit WAV at 48 kHz, and an efficientnet_b0 on
log-mels [1, 128, 313] of 5 s at 32 kHz, in each engine and precision that is installed. It is
untrained: weights are seeded, batch norms are calibrated on the sound; ranks are those of golden
windows.

``decode`` (blocks of mono float32 at 32 kHz), ``mel`` and ``infer`` (the engine) are measured alone
on the same files: the first two in one thread, by its CPU time; the engine with all processors
busy, by the wall time times the number of processors. The lower bound is their sum divided by the
number of processors. ``end to end`` is ``predict_files`` with the engine open, by the wall time.
All cases run once per round, so that other load on the machine affects all of them; ratios are
medians of the ratios within a round.

OpenSoundscape's ``CNN.predict`` has the same backbone, and its own spectrograms of equal size: 512
samples every 256, resized, which is less work than birdmix's mels of 2048 samples. It is run with
the fastest of some batch sizes and numbers of workers, and left out if it is not installed. Other
work on the machine slows it far more than birdmix, as torch's threads wait for each other: its
times are meaningless then.

Memory and start-up time are those of a whole `birdmix predict`: with one file of 5 s, its time is
little more than the start-up. ``--day`` predicts a recording of 24 h (16-bit WAV at
16 kHz, 2.8 GB of disk) with a small network.

``--gpu`` predicts OGG files of a minute (16 soundscapes under many names) with the torch engine:
decoding alone, in as many threads as there are processors; log-mel and network alone, from
waveforms in memory, in the engine's threads, in batches of a file and in the largest ones; and a
whole `birdmix predict`, from start to tables. Without a GPU it runs on the CPU, to try the script:
use few files.
"""

import argparse
import itertools
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import timm
import torch

from birdmix.audio.decode import DecodedBlocks, decode_recording
from birdmix.audio.encode import write_ogg
from birdmix.audio.find_recordings import find_recordings
from birdmix.audio.synthetic_scenes import (
    SOUNDSCAPE_SECONDS,
    SceneSettings,
    plan_soundscapes,
    render_scene,
)
from birdmix.bundle.bundle_weights import write_bundle
from birdmix.bundle.golden_storage import read_golden
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.engines.agreement import Agreement, measure_agreement
from birdmix.engines.engine_interface import Engine, EngineOutput
from birdmix.engines.onnx_export import export_network
from birdmix.engines.quantisation import quantise
from birdmix.engines.registry import EXPORTED_ENGINES, open_engine, open_exported_engine
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.make_golden_windows import create_golden_file
from birdmix.inference.predict_files import predict_files
from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.settings import PredictSettings
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings
from birdmix.threads import num_processors

Seconds = dict[str, list[float]]

RATE, SEGMENT_SECONDS = 32_000, 5
OGG, WAV = "OGG, 32 kHz", "WAV, 48 kHz"
CODES = tuple(f"species{number:03d}" for number in range(206))

#: As conf/model/efficientnet_b0.yaml and resnet10t_slim.yaml.
B0 = ModelSettings(backbone="efficientnet_b0", head="gem", dropout=0.2)
SLIM = {"channels": [16, 32, 64, 128], "stem_width": 16}
SMALL = ModelSettings(backbone="resnet10t", backbone_args=SLIM, head="gem")

#: x the lower bound, x OpenSoundscape, GB, seconds, GB for a day.
BOUND_GOAL, RIVAL_GOAL, MEMORY_GOAL, START_GOAL, DAY_GOAL = 1.25, 15, 1.5, 3.0, 1.0

#: On a GPU: x the speed of the slower of decoding, and of log-mel and network.
GPU_GOAL = 0.8

#: Batch size and number of workers of OpenSoundscape, all of which are tried.
RIVAL_OPTIONS = [(1, 0), (4, 0), (16, 0), (16, 2)]

#: Runs the command line and prints its seconds and peak memory in kB. A process's peak is at least
#: that of the process that started it, and this one is small.
LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = "from birdmix.cli.main import main; main()"
subprocess.run([sys.executable, "-c", code, *sys.argv[1:]], check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make_recordings(folder: Path, number: int) -> dict[str, Path]:
    """Write soundscapes in both formats; return their folders by format."""
    folders = {OGG: folder / "ogg", WAV: folder / "wav"}
    for each in folders.values():
        each.mkdir()
    for scene in plan_soundscapes(SceneSettings(0, 1.0, (0.0, 20.0)), "test", number):
        waveform = render_scene(scene, seed=0)
        write_ogg(folders[OGG] / f"{scene.number:03d}.ogg", waveform, RATE)
        resampled = soxr.resample(waveform, RATE, 48_000)
        soundfile.write(folders[WAV] / f"{scene.number:03d}.wav", resampled, 48_000, "PCM_16")
    return folders


def windows_of(folder: Path) -> np.ndarray:
    """Return the windows of all recordings of a folder, float32 [W, T]."""
    length = SOUNDSCAPE_SECONDS * RATE
    waveforms = [decode_recording(folder / path, RATE)[:length] for path in find_recordings(folder)]
    return np.concatenate(waveforms).reshape(-1, SEGMENT_SECONDS * RATE)


def make_bundle(folder: Path, model: ModelSettings, windows: np.ndarray) -> None:
    """Write a bundle of an untrained network whose batch norms are calibrated on the sound."""
    torch.manual_seed(0)
    log_mel, classifier = LogMelSettings(), Classifier(model, len(CODES)).train()
    examples = windows[:: max(len(windows) // 32, 1)][:32]
    mel = torch.from_numpy(NumpyLogMel(log_mel)(examples))
    with torch.no_grad():
        for _ in range(10):
            classifier(mel)
    manifest = Manifest(Labels(CODES), log_mel, model, SEGMENT_SECONDS)
    write_bundle(folder, manifest, classifier.state_dict())
    create_golden_file(folder, examples)


def installed_engines() -> list[str]:
    """Return the engines of exported networks that are installed."""
    return [name for name, kind in EXPORTED_ENGINES.items() if find_spec(kind.library)]


def engines_of(bundle: Path) -> dict[str, tuple[Engine, Agreement]]:
    """Open a bundle in all engines and precisions here, also if they differ from torch.

    The networks in float32 are left in the bundle.
    """
    golden = read_golden(bundle)
    engines: dict[str, tuple[Engine, Agreement]] = {}
    for kind in installed_engines():
        file = bundle / export_network(bundle, kind).file
        quantised = bundle / f"{kind}-int8.onnx"
        shutil.copy(file, quantised)
        quantise(quantised, golden.inputs)
        for precision, network in (("f32", file), ("bf16", file), ("int8", quantised)):
            engine = open_exported_engine(kind, read_manifest(bundle), network, precision)
            if (kind, precision) == ("onnx", "bf16") or engine.name in engines:
                continue  # ONNX Runtime has no bf16; OpenVINO uses f32 on a processor without it
            outputs = [engine.infer(each[None]) for each in golden.inputs.astype(np.float32)]
            logits = EngineOutput(np.concatenate([each.logits for each in outputs]))
            engines[engine.name] = engine, measure_agreement(logits, EngineOutput(golden.logits))
    return engines


def batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (items[at : at + size] for at in range(0, len(items), size))


def decode_all(folder: Path) -> None:
    for path in find_recordings(folder):
        for _ in DecodedBlocks(folder / path, RATE):
            pass


def preprocess_all(engine: Engine, windows: np.ndarray) -> None:
    for each in batches(windows, engine.batch_size):
        engine.preprocess(each)


def infer_all(engine: Engine, inputs: np.ndarray) -> None:
    with ThreadPoolExecutor(engine.num_threads) as pool:
        list(pool.map(engine.infer, batches(inputs, engine.batch_size)))


def predict_all(engine: Engine, folder: Path) -> None:
    with RecordingPredictor([engine], PredictSettings()) as predictor:
        for _ in predict_files(predictor, folder, find_recordings(folder)):
            pass


class Rival:
    """OpenSoundscape in a process of its own: in one process with birdmix's engines it crashed."""

    def __init__(self, folder: Path) -> None:
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        seconds_by_options = {each: self.seconds(folder, each) for each in RIVAL_OPTIONS}
        self.options = min(seconds_by_options, key=lambda each: seconds_by_options[each])
        times = ", ".join(f"{each} {took:.1f} s" for each, took in seconds_by_options.items())
        print(f"OpenSoundscape with (batch_size, num_workers): {times}")

    def seconds(self, folder: Path, options: tuple[int, int] | None = None) -> float:
        """Return the wall time for a folder; by default with the fastest options."""
        return self.process.submit(rival_seconds, folder, *(options or self.options)).result()


@cache
def rival_model() -> Any:
    from opensoundscape import CNN

    network = timm.create_model("efficientnet_b0", in_chans=1, num_classes=len(CODES))
    shape = {"height": 128, "width": 313, "channels": 1}
    return CNN(network, list(CODES), SEGMENT_SECONDS, sample_rate=RATE, **shape)


def rival_seconds(folder: Path, batch_size: int, num_workers: int) -> float:
    """Return the wall time of ``CNN.predict`` for a folder, without loading the model."""
    paths = [str(folder / path) for path in find_recordings(folder)]
    options = {"batch_size": batch_size, "num_workers": num_workers, "progress_bar": False}
    model, started = rival_model(), time.perf_counter()
    scores = model.predict(paths, **options)
    took = time.perf_counter() - started
    if scores.isna().to_numpy().any():
        raise ValueError("OpenSoundscape failed on some windows")
    return took


def thread_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that this thread takes for some work."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def wall_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_rounds(number: int, measure: Callable[[], dict[str, float]]) -> Seconds:
    """Return the seconds of each case in each round, after a warm-up round."""
    measure()
    rounds = [measure() for _ in range(number)]
    return {name: [seconds[name] for seconds in rounds] for name in rounds[0]}


def choose_engines(bundle: Path, inputs: np.ndarray) -> dict[str, Engine]:
    """Print the speed of all engines and their agreement with torch.

    Returns:
        The fastest engine of each kind that agrees with torch.
    """
    engines = engines_of(bundle)
    timed = {name: partial(infer_all, engine, inputs) for name, (engine, _) in engines.items()}
    seconds = measure_rounds(5, lambda: {name: wall_seconds(work) for name, work in timed.items()})
    median = {name: statistics.median(each) for name, each in seconds.items()}
    best: dict[str, str] = {}
    for name, (_, measured) in engines.items():
        kind, precision = name.split()
        violation = measured.describe_exceeded_limit(precision)
        print(
            f"{name:16}{len(inputs) / median[name]:6.0f} windows/s, ranks agree to "
            f"{measured.rank:.4f}{': not used' if violation else ''}"
        )
        if not violation and median[name] < median.get(best.get(kind, ""), np.inf):
            best[kind] = name
    return {name: engines[name][0] for name in best.values()}


def measure_round(
    folders: dict[str, Path],
    engines: dict[str, Engine],
    windows: np.ndarray,
    inputs: np.ndarray,
    rival: Rival | None,
) -> dict[str, float]:
    """Return the seconds of each case, measured once; decode, mel and infer are in core-seconds."""
    first = next(iter(engines.values()))
    took = {"mel": thread_seconds(partial(preprocess_all, first, windows))}
    for form, folder in folders.items():
        took[f"decode | {form}"] = thread_seconds(partial(decode_all, folder))
    for name, engine in engines.items():
        took[f"infer | {name}"] = num_processors() * wall_seconds(
            partial(infer_all, engine, inputs)
        )
        for form, folder in folders.items():
            stages = took["mel"] + took[f"decode | {form}"] + took[f"infer | {name}"]
            took[f"lower bound | {name} | {form}"] = stages / num_processors()
            took[f"end to end | {name} | {form}"] = wall_seconds(
                partial(predict_all, engine, folder)
            )
    if rival is not None:
        for form, folder in folders.items():
            took[f"OpenSoundscape | {form}"] = rival.seconds(folder)
    return took


def report(seconds: Seconds, audio_seconds: float) -> None:
    """Print medians, and their ratios."""

    def ratio(name: str, base: str) -> float:
        pairs = zip(seconds[name], seconds[base], strict=True)
        return statistics.median(a / b for a, b in pairs)

    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"{name:42}{median:7.2f} s{audio_seconds / median:8.0f} x real time")
    for name in (name for name in seconds if name.startswith("end to end")):
        _, engine, form = name.split(" | ")
        times_bound = ratio(name, f"lower bound | {engine} | {form}")
        report_goal(f"{name}, x the lower bound", times_bound, BOUND_GOAL)
        if (rival := f"OpenSoundscape | {form}") in seconds:
            speed = ratio(rival, name)
            report_goal(f"{name}, x as fast as OpenSoundscape", speed, RIVAL_GOAL, is_minimum=True)


def report_goal(name: str, value: float, goal: float, is_minimum: bool = False) -> None:
    """Print a value, its goal, and whether the goal is met."""
    met = value >= goal if is_minimum else value <= goal
    print(f"{name}: {value:.2f} (goal {goal:g}): {'met' if met else 'missed'}")


def predict_alone(folder: Path, bundle: Path, kind: str) -> tuple[float, float]:
    """Run `birdmix predict` in a process of its own; return seconds and peak memory in GB."""
    arguments = ["predict", folder, "--bundle", bundle, "--engine", kind]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", LAUNCHER, *map(str, arguments), "--out", out]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    seconds, kilobytes = done.stdout.split()[-2:]
    return float(seconds), int(kilobytes) * 1024 / 1e9


def report_processes(folders: dict[str, Path], bundle: Path, short: Path, rounds: int) -> None:
    """Print the memory of whole processes, and their time for one short recording."""
    for kind in read_manifest(bundle).exports:
        for form, folder in folders.items():
            _, peak = predict_alone(folder, bundle, kind)
            report_goal(f"birdmix predict | {kind} | {form}, peak GB", peak, MEMORY_GOAL)
        starts = [predict_alone(short, bundle, kind)[0] for _ in range(rounds)]
        report_goal(
            f"birdmix predict | {kind} | 5 s, seconds", statistics.median(starts), START_GOAL
        )


def report_day(folder: Path, bundle: Path, minute: np.ndarray) -> None:
    """Print time and memory of a recording of 24 h."""
    folder.mkdir()
    resampled = soxr.resample(minute, RATE, 16_000)
    with soundfile.SoundFile(folder / "day.wav", "w", 16_000, 1, "PCM_16") as file:
        for _ in range(24 * 60):
            file.write(resampled)
    for kind in read_manifest(bundle).exports:
        took, peak = predict_alone(folder, bundle, kind)
        print(f"24 h in one file | {kind}: {took:.0f} s, {86_400 / took:.0f} x real time")
        report_goal(f"24 h in one file | {kind}, peak GB", peak, DAY_GOAL)


def decode_in_threads(folder: Path) -> None:
    """Decode the recordings of a folder, as many at a time as there are processors."""

    def decode(path: str) -> None:
        for _ in DecodedBlocks(folder / path, RATE):
            pass

    with ThreadPoolExecutor(num_processors()) as pool:
        list(pool.map(decode, find_recordings(folder)))


def preprocess_and_infer(engine: Engine, windows: np.ndarray, size: int, number: int) -> None:
    """Compute the logits of at least a number of windows, in batches of one size."""
    endless = itertools.cycle(batches(windows[: len(windows) // size * size], size))
    chosen = itertools.islice(endless, -(-number // size))
    with ThreadPoolExecutor(engine.num_threads) as pool:
        list(pool.map(lambda each: engine.infer(engine.preprocess(each)), chosen))


def report_gpu(root: Path, num_files: int, rounds: int) -> None:
    """Print the speed of decoding, of log-mel and network, and of `birdmix predict` with torch."""
    soundscapes = make_recordings(root, min(num_files, 16))[OGG]
    windows, bundle = windows_of(soundscapes), root / "bundle"
    make_bundle(bundle, B0, windows)
    folder, short = root / "files", root / "short"
    for target, count in ((folder, num_files), (short, 1)):
        target.mkdir()
        sources = itertools.cycle(sorted(soundscapes.iterdir()))
        for index, source in enumerate(itertools.islice(sources, count)):
            os.link(source, target / f"{index:06d}.ogg")
    engine = open_engine(bundle, "torch")
    per_file = SOUNDSCAPE_SECONDS // SEGMENT_SECONDS
    number = num_files * per_file
    decoding, whole, start = "decoding", "birdmix predict", "birdmix predict, one file"
    by_size = {
        f"log-mel and network, batches of {size}": size for size in (per_file, engine.batch_size)
    }

    def measure() -> dict[str, float]:
        took = {decoding: wall_seconds(partial(decode_in_threads, folder))}
        for name, size in by_size.items():
            work = partial(preprocess_and_infer, engine, windows, size, number)
            took[name] = wall_seconds(work)
        took[whole], _ = predict_alone(folder, bundle, "torch")
        took[start], _ = predict_alone(short, bundle, "torch")
        return took

    seconds = measure_rounds(rounds, measure)
    audio_seconds = num_files * SOUNDSCAPE_SECONDS
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{engine.name}, {device}, {num_processors()} processors, {num_files} files")
    for name, each in seconds.items():
        median = statistics.median(each)
        real_time = "" if name == start else f"{audio_seconds / median:8.0f} x real time"
        print(f"{name:42}{median:7.2f} s{real_time}")
    network = [min(each) for each in zip(*(seconds[name] for name in by_size), strict=True)]
    bounds = [max(each) for each in zip(seconds[decoding], network, strict=True)]
    running = [a - b for a, b in zip(seconds[whole], seconds[start], strict=True)]
    for name, each in ((whole, seconds[whole]), (f"{whole} without its start", running)):
        speed = statistics.median(bound / own for bound, own in zip(bounds, each, strict=True))
        report_goal(f"{name}, x the slower part", speed, GPU_GOAL, is_minimum=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, help="12 by default, 4000 on a GPU")
    parser.add_argument("--no-rival", action="store_true")
    parser.add_argument("--day", action="store_true", help="24 h in one file only")
    parser.add_argument("--gpu", action="store_true", help="the torch engine on a GPU only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if options.gpu:
            report_gpu(root, options.files or 4000, options.rounds)
            return
        folders = make_recordings(root, options.files or 12)
        windows, bundle = windows_of(folders[OGG]), root / "bundle"
        make_bundle(bundle, SMALL if options.day else B0, windows)
        if options.day:
            export_network(bundle, installed_engines()[0])
            report_day(
                root / "day", bundle, windows[: SOUNDSCAPE_SECONDS // SEGMENT_SECONDS].ravel()
            )
            return
        inputs = NumpyLogMel(LogMelSettings())(windows)
        engines = choose_engines(bundle, inputs)
        rival = (
            Rival(folders[OGG]) if find_spec("opensoundscape") and not options.no_rival else None
        )
        measure = partial(measure_round, folders, engines, windows, inputs, rival)
        report(measure_rounds(options.rounds, measure), windows.size / RATE)
        (root / "short").mkdir()
        soundfile.write(root / "short" / "window.wav", windows[0], RATE, "PCM_16")
        report_processes(folders, bundle, root / "short", options.rounds)


if __name__ == "__main__":
    main()
