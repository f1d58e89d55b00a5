"""Time log-mels against torchaudio, librosa and the Fourier transform alone, on a CPU.

    python benchmarks/mel.py [--rounds 30] [--batch 64] [--seconds 5] [--beside 2]

64 waveforms of 5 s at 32 kHz; n_fft 2048, hop 512, 128 mels. All cases run once per round, so that
other load on the machine affects all of them alike. Ratios are medians over rounds of the ratio
within a round. The results are first compared with each other, in dB. ``--beside`` starts busy
processes of one thread each, which end with the script: the goal is another one then.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import librosa
import numpy as np
import torch
import torchaudio

from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings

Case = Callable[[], object]

LOG_MEL, IN_TORCH = "LogMel", "TorchLogMel, as on GPUs"
TORCHAUDIO, LIBROSA = "other: torchaudio, batched", "other: librosa, batched"

#: Goals: largest time of LogMel as a multiple of that of others, alone and beside busy processes.
GOALS = {TORCHAUDIO: (0.35, 0.5), LIBROSA: (0.6, 0.6)}

#: A busy process; it ends when this one has ended, however that happens.
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


def decibel_settings(**options: Any) -> LogMelSettings:
    """Return settings of log-mels in decibels, not normalised."""
    return LogMelSettings(normalise="fixed", offset=0, scale=1, **options)


def cases(x: torch.Tensor) -> dict[str, Case]:
    """Return the functions to time on waveforms [B, T] by name, the baseline first."""
    settings = decibel_settings()
    options: dict[str, Any] = {"n_fft": settings.n_fft, "hop_length": settings.hop_length}
    options |= {"n_mels": settings.n_mels, "norm": "slaney", "pad_mode": "constant"}
    mel = torchaudio.transforms.MelSpectrogram(
        settings.sample_rate, f_min=settings.f_min, mel_scale="slaney", **options
    )
    to_decibel = torchaudio.transforms.AmplitudeToDB(top_db=settings.top_db)
    array = x.numpy()

    def transform() -> None:
        for waveform in x:
            torch.stft(
                waveform, settings.n_fft, settings.hop_length, window=mel.spectrogram.window,
                pad_mode="constant", return_complex=True,
            )  # fmt: skip

    def librosa_mel() -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=array, sr=settings.sample_rate, fmin=settings.f_min, **options
        )
        return librosa.power_to_db(power, top_db=settings.top_db)[:, None]

    def log_mel_case(settings: LogMelSettings) -> Case:
        log_mel = LogMel(settings)
        return lambda: log_mel(x)

    in_torch = LogMel(settings).on_device
    short = decibel_settings(n_fft=1024, hop_length=320, n_mels=64, f_max=14_000)
    return {
        "baseline: torch.stft, one by one": transform,
        LOG_MEL: log_mel_case(settings),
        f"{LOG_MEL}, standardised": log_mel_case(LogMelSettings()),
        f"{LOG_MEL}, power=1": log_mel_case(decibel_settings(power=1)),
        f"{LOG_MEL}, PCEN": log_mel_case(LogMelSettings(power=1, compression="pcen")),
        f"{LOG_MEL}, 64 mels, 1024 every 320": log_mel_case(short),
        IN_TORCH: lambda: in_torch(x),
        TORCHAUDIO: lambda: to_decibel(mel(x)[:, None]),
        LIBROSA: librosa_mel,
    }


def report_differences(timed: dict[str, Case]) -> None:
    """Print the largest difference to LogMel in dB."""
    reference = np.asarray(timed[LOG_MEL]())
    for name in (IN_TORCH, TORCHAUDIO, LIBROSA):
        difference = np.abs(reference - np.asarray(timed[name]())).max()
        print(
            f"{LOG_MEL} and {name.removeprefix('other: ')}: largest difference {difference:.1e} dB"
        )


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run busy processes of one thread each."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_seconds(timed: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each case in each of interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_index in range(rounds + 3):
        for name, case in timed.items():
            start = time.perf_counter()
            result = case()
            if round_index >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
            del result
    return seconds


def median_ratio(seconds: dict[str, list[float]], name: str, reference: str) -> float:
    """Return the median over rounds of the time of a case over that of a reference."""
    pairs = zip(seconds[name], seconds[reference], strict=True)
    return statistics.median(a / b for a, b in pairs)


def report(seconds: dict[str, list[float]], beside: int) -> None:
    """Print the times, their ratios to the baseline and to torchaudio, and the goals."""
    baseline = next(iter(seconds))
    print(f"{'':36}{'median ms':>10}{'min ms':>10}{'x base':>9}{'x torchaudio':>14}")
    for name, values in seconds.items():
        print(
            f"{name:36}{1e3 * statistics.median(values):10.1f}{1e3 * min(values):10.1f}"
            f"{median_ratio(seconds, name, baseline):9.2f}"
            f"{median_ratio(seconds, name, TORCHAUDIO):14.2f}"
        )
    for reference, (alone_goal, beside_goal) in GOALS.items():
        ratio, goal = (
            median_ratio(seconds, LOG_MEL, reference),
            beside_goal if beside else alone_goal,
        )
        verdict = "met" if ratio <= goal else "missed"
        reference_name = reference.removeprefix("other: ")
        print(f"{LOG_MEL} takes {ratio:.2f} x {reference_name} (goal {goal}): {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--beside", type=int, default=0, help="busy processes beside this one")
    options = parser.parse_args()
    torch.manual_seed(0)
    x = 0.1 * torch.randn(options.batch, LogMelSettings().seconds_to_num_samples(options.seconds))
    print(
        f"{len(x)} x {x.shape[1]:,} samples, {torch.get_num_threads()} threads of torch, "
        f"{options.beside} busy processes beside"
    )
    timed = cases(x)
    report_differences(timed)
    with busy_processes(options.beside):
        seconds = measure_seconds(timed, options.rounds)
    report(seconds, options.beside)


if __name__ == "__main__":
    main()
