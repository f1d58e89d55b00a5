"""Time listening to a folder against its floor, and against OpenSoundscape, on the CPU.

    python benchmarks/listening.py [--rounds 5] [--files 12] [--no-rival]
    python benchmarks/listening.py --day

Soundscapes of a minute, as OGG at 32 kHz and as 16-bit WAV at 48 kHz, and an efficientnet_b0 that
hears log-mels [1, 128, 313] of 5 s at 32 kHz, in each engine and precision that is here. It is
untrained: weights are seeded, batch norms have seen the sound; ranks are those of golden windows.

``decode`` (blocks of mono float32 at 32 kHz), ``mel`` and ``judge`` (the engine) are measured alone
on the same files: the first two in one thread, by its CPU time; the engine with all processors
busy, by the wall, times processors. The floor is their sum over the processors. ``end to end`` is
`listen` with the engine open, by the wall. All cases run once per round, so that whatever the
machine does meets all of them; ratios are medians of the ratios within a round.

OpenSoundscape's ``CNN.predict`` has the same backbone, and its own spectrograms in the size of ours
(512 samples every 256 and a resize, where ours are mels of 2048 samples: less work), with the best
of some sizes of batches and numbers of workers. It is left out where it is not installed. Other
work on the machine slows it far more than us, as torch's threads wait for each other: what such a
run says of it is worth nothing.

Memory and start are those of a whole `birdmix predict`: with one file of 5 s, all that it takes is
more than what passes before the first window. ``--day`` hears a recording of 24 h (16-bit WAV at
16 kHz, 2.8 GB of disk) with a small network.
"""

import argparse
import multiprocessing
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

from birdmix.app.golden import keep_golden
from birdmix.audio.decode import Blocks, decode
from birdmix.audio.encode import write_ogg
from birdmix.audio.listing import find_recordings
from birdmix.audio.synthesis import SOUNDSCAPE_SECONDS, Habitat, plan_soundscapes, render
from birdmix.bundle.golden import read_golden
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.bundle.weights import write_bundle
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.agreement import Agreement, agreement
from birdmix.inference.engine import EXPORTED, Engine, Heard, exported_engine, processors
from birdmix.inference.export import export
from birdmix.inference.listen import listen
from birdmix.inference.listener import Listener
from birdmix.inference.quantise import quantise
from birdmix.inference.settings import ListenSettings
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings

Seconds = dict[str, list[float]]

RATE, SEGMENT_SECONDS = 32_000, 5
OGG, WAV = "OGG, 32 kHz", "WAV, 48 kHz"
CODES = tuple(f"species{number:03d}" for number in range(206))

#: As conf/model/efficientnet_b0.yaml and resnet10t_slim.yaml.
B0 = ModelSettings(backbone="efficientnet_b0", head="gem", dropout=0.2)
SLIM = {"channels": [16, 32, 64, 128], "stem_width": 16}
SMALL = ModelSettings(backbone="resnet10t", backbone_args=SLIM, head="gem")

#: x the floor, x OpenSoundscape, GB, seconds, GB for a day.
FLOOR_GOAL, RIVAL_GOAL, MEMORY_GOAL, START_GOAL, DAY_GOAL = 1.25, 15, 1.5, 3.0, 1.0

#: Sizes of batches and numbers of workers that the rival may choose from.
RIVAL_WAYS = [(1, 0), (4, 0), (16, 0), (16, 2)]

#: Runs the command line and prints its seconds and peak memory in kB. A process's peak is at least
#: that of the one which started it: this one is small.
LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = "from birdmix.app.cli import main; main()"
subprocess.run([sys.executable, "-c", code, *sys.argv[1:]], check=True)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make_recordings(folder: Path, number: int) -> dict[str, Path]:
    """Write soundscapes in both forms; return their folders by form."""
    folders = {OGG: folder / "ogg", WAV: folder / "wav"}
    for each in folders.values():
        each.mkdir()
    for scene in plan_soundscapes(Habitat(0, 1.0, (0.0, 20.0)), "test", number):
        waveform = render(scene, seed=0)
        write_ogg(folders[OGG] / f"{scene.number:03d}.ogg", waveform, RATE)
        faster = soxr.resample(waveform, RATE, 48_000)
        soundfile.write(folders[WAV] / f"{scene.number:03d}.wav", faster, 48_000, "PCM_16")
    return folders


def windows_of(folder: Path) -> np.ndarray:
    """Return the windows of all recordings of a folder, float32 [W, T]."""
    length = SOUNDSCAPE_SECONDS * RATE
    waveforms = [decode(folder / path, RATE)[:length] for path in find_recordings(folder)]
    return np.concatenate(waveforms).reshape(-1, SEGMENT_SECONDS * RATE)


def make_bundle(folder: Path, model: ModelSettings, windows: np.ndarray) -> None:
    """Write a bundle of an untrained network whose batch norms have seen the sound."""
    torch.manual_seed(0)
    log_mel, classifier = LogMelSettings(), Classifier(model, len(CODES)).train()
    some = windows[:: max(len(windows) // 32, 1)][:32]
    mel = torch.from_numpy(NumpyLogMel(log_mel)(some))
    with torch.no_grad():
        for _ in range(10):
            classifier(mel)
    manifest = Manifest(Labels(CODES), log_mel, model, SEGMENT_SECONDS)
    write_bundle(folder, manifest, classifier.state_dict())
    keep_golden(folder, some)


def kinds() -> list[str]:
    """Return the engines of exported networks that are installed."""
    return [kind for kind, library in EXPORTED.items() if find_spec(library)]


def engines_of(bundle: Path) -> dict[str, tuple[Engine, Agreement]]:
    """Open a bundle in all engines and precisions here, also where it hears otherwise than torch.

    The networks in float32 are left in the bundle.
    """
    golden = read_golden(bundle)
    found: dict[str, tuple[Engine, Agreement]] = {}
    for kind in kinds():
        file = bundle / export(bundle, kind).file
        eighth = bundle / f"{kind}-int8.onnx"
        shutil.copy(file, eighth)
        quantise(eighth, golden.pictures)
        for precision, network in (("f32", file), ("bf16", file), ("int8", eighth)):
            engine = exported_engine(kind, read_manifest(bundle), network, precision)
            if (kind, precision) == ("onnx", "bf16") or engine.name in found:
                continue  # there is none, or not on this processor
            heard = [engine.judge(each[None]) for each in golden.pictures.astype(np.float32)]
            clip = Heard(np.concatenate([each.clip for each in heard]))
            found[engine.name] = engine, agreement(clip, Heard(golden.clip))
    return found


def batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (items[at : at + size] for at in range(0, len(items), size))


def decode_all(folder: Path) -> None:
    for path in find_recordings(folder):
        for _ in Blocks(folder / path, RATE):
            pass


def hear_all(engine: Engine, windows: np.ndarray) -> None:
    for each in batches(windows, engine.batch):
        engine.hear(each)


def judge_all(engine: Engine, pictures: np.ndarray) -> None:
    with ThreadPoolExecutor(engine.side_by_side) as pool:
        list(pool.map(engine.judge, batches(pictures, engine.batch)))


def listen_all(engine: Engine, folder: Path) -> None:
    with Listener([engine], ListenSettings()) as listener:
        for _ in listen(listener, folder, find_recordings(folder)):
            pass


class Rival:
    """OpenSoundscape in a process of its own: beside our engines it has crashed."""

    def __init__(self, folder: Path) -> None:
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        took = {way: self.seconds(folder, way) for way in RIVAL_WAYS}
        self.way = min(took, key=lambda way: took[way])
        told = ", ".join(f"{way} {seconds:.1f} s" for way, seconds in took.items())
        print(f"OpenSoundscape with (batch_size, num_workers): {told}")

    def seconds(self, folder: Path, way: tuple[int, int] | None = None) -> float:
        """Return the wall time for a folder; in the best way if none is given."""
        return self.process.submit(rival_seconds, folder, *(way or self.way)).result()


@cache
def rival_model() -> Any:
    from opensoundscape import CNN

    network = timm.create_model("efficientnet_b0", in_chans=1, num_classes=len(CODES))
    shape = {"height": 128, "width": 313, "channels": 1}
    return CNN(network, list(CODES), SEGMENT_SECONDS, sample_rate=RATE, **shape)


def rival_seconds(folder: Path, batch_size: int, num_workers: int) -> float:
    """Return the wall time of ``CNN.predict`` for a folder, the model being there."""
    paths = [str(folder / path) for path in find_recordings(folder)]
    given = {"batch_size": batch_size, "num_workers": num_workers, "progress_bar": False}
    model, began = rival_model(), time.perf_counter()
    scores = model.predict(paths, **given)
    took = time.perf_counter() - began
    if scores.isna().to_numpy().any():
        raise ValueError("OpenSoundscape failed on some windows")
    return took


def thread_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that this thread takes for some work."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def wall_seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rounds_of(number: int, one: Callable[[], dict[str, float]]) -> Seconds:
    """Return the seconds of each case in each of some rounds, after one that warms up."""
    one()
    every = [one() for _ in range(number)]
    return {name: [took[name] for took in every] for name in every[0]}


def choose(bundle: Path, pictures: np.ndarray) -> dict[str, Engine]:
    """Say how fast and how near to torch all engines are.

    Returns:
        The fastest that is near enough, of each kind.
    """
    engines = engines_of(bundle)
    judging = {name: partial(judge_all, engine, pictures) for name, (engine, _) in engines.items()}
    seconds = rounds_of(5, lambda: {name: wall_seconds(work) for name, work in judging.items()})
    median = {name: statistics.median(each) for name, each in seconds.items()}
    best: dict[str, str] = {}
    for name, (_, near) in engines.items():
        kind, precision = name.split()
        lacks = near.lacks(precision)
        print(
            f"{name:16}{len(pictures) / median[name]:6.0f} windows/s, ranks agree to "
            f"{near.rank:.4f}{': not taken' if lacks else ''}"
        )
        if not lacks and median[name] < median.get(best.get(kind, ""), np.inf):
            best[kind] = name
    return {name: engines[name][0] for name in best.values()}


def one_round(
    folders: dict[str, Path],
    engines: dict[str, Engine],
    windows: np.ndarray,
    pictures: np.ndarray,
    rival: Rival | None,
) -> dict[str, float]:
    """Return the seconds of everything once; those of stages are core-seconds."""
    ear = next(iter(engines.values()))
    took = {"mel": thread_seconds(partial(hear_all, ear, windows))}
    for form, folder in folders.items():
        took[f"decode | {form}"] = thread_seconds(partial(decode_all, folder))
    for name, engine in engines.items():
        took[f"judge | {name}"] = processors() * wall_seconds(partial(judge_all, engine, pictures))
        for form, folder in folders.items():
            stages = took["mel"] + took[f"decode | {form}"] + took[f"judge | {name}"]
            took[f"floor | {name} | {form}"] = stages / processors()
            took[f"end to end | {name} | {form}"] = wall_seconds(
                partial(listen_all, engine, folder)
            )
    if rival is not None:
        for form, folder in folders.items():
            took[f"OpenSoundscape | {form}"] = rival.seconds(folder)
    return took


def report(seconds: Seconds, audio_seconds: float) -> None:
    """Print medians, and the ratios that are asked for."""

    def ratio(of: str, to: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))

    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"{name:42}{median:7.2f} s{audio_seconds / median:8.0f} x real time")
    for name in (name for name in seconds if name.startswith("end to end")):
        _, engine, form = name.split(" | ")
        tell(f"{name}, x the floor", ratio(name, f"floor | {engine} | {form}"), FLOOR_GOAL)
        if (rival := f"OpenSoundscape | {form}") in seconds:
            found = ratio(rival, name)
            tell(f"{name}, x as fast as OpenSoundscape", found, RIVAL_GOAL, least=True)


def tell(what: str, found: float, goal: float, least: bool = False) -> None:
    met = found >= goal if least else found <= goal
    print(f"{what}: {found:.2f} (goal {goal:g}): {'met' if met else 'missed'}")


def predict_alone(folder: Path, bundle: Path, kind: str) -> tuple[float, float]:
    """Run `birdmix predict` in a process of its own; return seconds and peak memory in GB."""
    given = ["predict", folder, "--bundle", bundle, "--engine", kind]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", LAUNCHER, *map(str, given), "--out", out]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    seconds, kilobytes = done.stdout.split()[-2:]
    return float(seconds), int(kilobytes) * 1024 / 1e9


def report_processes(folders: dict[str, Path], bundle: Path, short: Path, rounds: int) -> None:
    """Print the memory of whole processes, and what they take for one short recording."""
    for kind in read_manifest(bundle).exports:
        for form, folder in folders.items():
            _, peak = predict_alone(folder, bundle, kind)
            tell(f"birdmix predict | {kind} | {form}, peak GB", peak, MEMORY_GOAL)
        starts = [predict_alone(short, bundle, kind)[0] for _ in range(rounds)]
        tell(f"birdmix predict | {kind} | 5 s, seconds", statistics.median(starts), START_GOAL)


def report_day(folder: Path, bundle: Path, minute: np.ndarray) -> None:
    """Print what 24 h in one file take."""
    folder.mkdir()
    slower = soxr.resample(minute, RATE, 16_000)
    with soundfile.SoundFile(folder / "day.wav", "w", 16_000, 1, "PCM_16") as file:
        for _ in range(24 * 60):
            file.write(slower)
    for kind in read_manifest(bundle).exports:
        took, peak = predict_alone(folder, bundle, kind)
        print(f"24 h in one file | {kind}: {took:.0f} s, {86_400 / took:.0f} x real time")
        tell(f"24 h in one file | {kind}, peak GB", peak, DAY_GOAL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--no-rival", action="store_true")
    parser.add_argument("--day", action="store_true", help="24 h in one file, and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folders = make_recordings(root, options.files)
        windows, bundle = windows_of(folders[OGG]), root / "bundle"
        make_bundle(bundle, SMALL if options.day else B0, windows)
        if options.day:
            export(bundle, kinds()[0])
            report_day(
                root / "day", bundle, windows[: SOUNDSCAPE_SECONDS // SEGMENT_SECONDS].ravel()
            )
            return
        pictures = NumpyLogMel(LogMelSettings())(windows)
        engines = choose(bundle, pictures)
        rival = (
            Rival(folders[OGG]) if find_spec("opensoundscape") and not options.no_rival else None
        )
        one = partial(one_round, folders, engines, windows, pictures, rival)
        report(rounds_of(options.rounds, one), windows.size / RATE)
        (root / "short").mkdir()
        soundfile.write(root / "short" / "window.wav", windows[0], RATE, "PCM_16")
        report_processes(folders, bundle, root / "short", options.rounds)


if __name__ == "__main__":
    main()
