"""Time the log-mel against torchaudio, librosa and the bare transform, on the CPU.

    python benchmarks/mel.py [--rounds 30] [--batch 64] [--seconds 5]

64 clips of 5 s at 32 kHz, 2048 samples every 512, 128 mels. All cases run once per round, so that
whatever the machine does meets all of them. Ratios are medians over rounds of the ratio within a
round; goals are for the ratios named beside them. First all are compared with each other, in dB.
Where other work shares the cores, set OMP_WAIT_POLICY=PASSIVE: torch's threads wait for each other
after every step of two clips, and waiting actively they lose whole time slices to strangers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import torch
import torchaudio

from birdmix import threads
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings

Case = Callable[[], object]

OURS, TWIN = "LogMel", "NumpyLogMel"
TORCHAUDIO, LIBROSA = "rival: torchaudio, batched", "rival: librosa, batched"

#: What is asked of the first, as a multiple of the second.
GOALS = [(OURS, TORCHAUDIO, 0.45), (OURS, LIBROSA, 0.6), (TWIN, OURS, 1.5)]


def decibels(**differing: Any) -> LogMelSettings:
    """Return settings whose mels are bare decibels."""
    return LogMelSettings(normalise="fixed", offset=0, scale=1, **differing)


def cases(x: torch.Tensor) -> dict[str, Case]:
    """Return what is timed on waveforms [B, T], by name; the floor first."""
    settings = decibels()
    given: dict[str, Any] = {"n_fft": settings.n_fft, "hop_length": settings.hop_length}
    given |= {"n_mels": settings.n_mels, "norm": "slaney", "pad_mode": "constant"}
    mel = torchaudio.transforms.MelSpectrogram(
        settings.sample_rate, f_min=settings.f_min, mel_scale="slaney", **given
    )
    to_decibel = torchaudio.transforms.AmplitudeToDB(top_db=settings.top_db)
    array = x.numpy()

    def transform() -> None:
        for clip in x:
            torch.stft(
                clip, settings.n_fft, settings.hop_length, window=mel.spectrogram.window,
                pad_mode="constant", return_complex=True,
            )  # fmt: skip

    def by_librosa() -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=array, sr=settings.sample_rate, fmin=settings.f_min, **given
        )
        return librosa.power_to_db(power, top_db=settings.top_db)[:, None]

    def ours(settings: LogMelSettings) -> Case:
        log_mel = LogMel(settings)
        return lambda: log_mel(x)

    def twin(settings: LogMelSettings) -> Case:
        log_mel = NumpyLogMel(settings)
        clips = np.split(array, len(array))
        return lambda: np.concatenate([mel for _, mel in threads.each(log_mel, clips)])

    short = decibels(n_fft=1024, hop_length=320, n_mels=64, f_max=14_000)
    pcen = LogMelSettings(power=1, compression="pcen")
    return {
        "floor: torch.stft, clip by clip": transform,
        OURS: ours(settings),
        f"{OURS}, standardised": ours(LogMelSettings()),
        f"{OURS}, power=1": ours(decibels(power=1)),
        f"{OURS}, PCEN": ours(pcen),
        f"{OURS}, 64 mels, 1024 every 320": ours(short),
        TWIN: twin(settings),
        f"{TWIN}, power=1": twin(decibels(power=1)),
        f"{TWIN}, PCEN": twin(pcen),
        f"{TWIN}, 64 mels, 1024 every 320": twin(short),
        TORCHAUDIO: lambda: to_decibel(mel(x)[:, None]),
        LIBROSA: by_librosa,
    }


def report_differences(timed: dict[str, Case]) -> None:
    ours = np.asarray(timed[OURS]())
    for name in (TWIN, TORCHAUDIO, LIBROSA):
        print(f"{OURS} and {name}: {np.abs(ours - np.asarray(timed[name]())).max():.1e} dB apart")


def seconds_of(timed: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each case in each of interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 3):
        for name, case in timed.items():
            began = time.perf_counter()
            result = case()
            if number >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - began)
            del result
    return seconds


def ratio(seconds: dict[str, list[float]], of: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[of], seconds[to], strict=True))


def report(seconds: dict[str, list[float]]) -> None:
    floor = next(iter(seconds))
    print(f"{'':36}{'median ms':>10}{'least ms':>10}{'x floor':>9}{'x torchaudio':>14}")
    for name, each in seconds.items():
        print(
            f"{name:36}{1e3 * statistics.median(each):10.1f}{1e3 * min(each):10.1f}"
            f"{ratio(seconds, name, floor):9.2f}{ratio(seconds, name, TORCHAUDIO):14.2f}"
        )
    for of, to, goal in GOALS:
        found = ratio(seconds, of, to)
        verdict = "met" if found <= goal else "missed"
        print(f"{of} takes {found:.2f} x {to.removeprefix('rival: ')} (goal {goal}): {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    x = 0.1 * torch.randn(options.batch, LogMelSettings().num_samples(options.seconds))
    print(f"{len(x)} x {x.shape[1]:,} samples, {torch.get_num_threads()} threads of torch")
    timed = cases(x)
    report_differences(timed)
    report(seconds_of(timed, options.rounds))


if __name__ == "__main__":
    main()
