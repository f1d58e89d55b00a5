"""Log-mels in numpy, on CPUs, agree with those in torch operations, on GPUs."""

import librosa
import numpy as np
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.log_mel_torch import TorchLogMel
from birdmix.frontend.mel_filters import mel_filters
from birdmix.frontend.settings import LogMelSettings


def fading_noise() -> np.ndarray:
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, (3, 32_000)) * np.logspace(0, -5, 32_000)
    return (wave * np.array([[1], [1e-3], [10]])).astype(np.float32)


def torchaudio_filters(settings: LogMelSettings) -> np.ndarray:
    """Return the filters that training uses if it can, float32 [N, M]."""
    return melscale_fbanks(
        n_freqs=settings.n_fft // 2 + 1,
        f_min=settings.f_min,
        f_max=settings.max_frequency,
        n_mels=settings.n_mels,
        sample_rate=settings.sample_rate,
        norm=settings.mel_norm,
        mel_scale=settings.mel_scale,
    ).numpy()


def in_numpy_and_torch(settings: LogMelSettings, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log-mels of both implementations, with the same filters.

    The lowest weights of a filter amplify the rounding of its corner, which the first test bounds.
    """
    filters = torchaudio_filters(settings)
    in_torch = TorchLogMel(settings, torch.from_numpy(filters))(torch.from_numpy(wave))
    return NumpyLogMel(settings, filters)(wave), in_torch.numpy()


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(("n_fft", "n_mels"), [(2048, 128), (1024, 64), (1024, 224)])
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_mel_filters_agree_with_torchaudio_and_librosa(
    norm: str | None, scale: str, n_fft: int, n_mels: int
):
    settings = LogMelSettings(n_fft=n_fft, n_mels=n_mels, mel_norm=norm, mel_scale=scale)
    # Corners, up to 16 kHz, are rounded to 2^-11 Hz a few times, and exp and pow differ between
    # processors. The narrowest filters rise over 20 Hz: 4 / 2^11 / 20. A norm divides by 20 Hz.
    tolerance = 5e-6 if norm else 1e-4
    of_librosa = librosa.filters.mel(
        sr=32_000, n_fft=n_fft, n_mels=n_mels, fmin=50, htk=scale == "htk", norm=norm
    )
    for reference in (torchaudio_filters(settings), of_librosa.T):
        np.testing.assert_allclose(mel_filters(settings), reference, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"power": 1},
        {"mel_scale": "htk", "mel_norm": None, "n_mels": 256},
        {"n_mels": 64, "n_fft": 1024, "hop_length": 320, "f_max": 14_000},
        {"pad_mode": "reflect"},
        {"n_mels": 224, "n_fft": 1024, "mel_scale": "htk", "top_db": 200},  # empty filters
    ],
)
def test_decibels_agree_with_torch_given_the_same_filters(options: dict):
    settings = LogMelSettings(normalise="fixed", offset=0, scale=1, **options)
    wave = fading_noise()
    actual, expected = in_numpy_and_torch(settings, wave)
    assert actual.shape == expected.shape and actual.dtype == np.float32
    assert np.abs(actual - expected).max() < 1e-3


@pytest.mark.parametrize("normalise", ["standardise", "minmax", "fixed"])
@pytest.mark.parametrize("compression", ["decibel", "pcen"])
def test_compression_and_normalisation_agree_with_torch(normalise: str, compression: str):
    settings = LogMelSettings(
        normalise=normalise, compression=compression, power=1, offset=40, scale=80, hop_length=160
    )  # 201 frames: more than torch smooths at a time
    np.testing.assert_allclose(*in_numpy_and_torch(settings, fading_noise()), atol=1e-4)


def test_pcen_with_start_one_agrees_with_torch():
    settings = LogMelSettings(compression="pcen", normalise="fixed", offset=0, scale=1)
    settings.pcen.start = "one"
    np.testing.assert_allclose(*in_numpy_and_torch(settings, fading_noise()), rtol=1e-4, atol=1e-4)


def test_the_log_mel_of_a_window_does_not_depend_on_the_others():
    log_mel, wave = NumpyLogMel(LogMelSettings()), fading_noise()
    assert np.array_equal(log_mel(wave)[1:2], log_mel(wave[1:2]))


def test_zero_windows_give_an_empty_array():
    assert NumpyLogMel(LogMelSettings())(np.zeros((0, 32_000), np.float32)).shape == (0, 1, 128, 63)
