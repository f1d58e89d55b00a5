"""The torch-free front end: the same numbers as in training."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torchaudio.functional import melscale_fbanks

from birdmix.frontend.filters import mel_filters
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.frontend.settings import LogMelSettings


def fading_noise() -> np.ndarray:
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, (3, 32_000)) * np.logspace(0, -5, 32_000)
    return (wave * np.array([[1], [1e-3], [10]])).astype(np.float32)


def torchaudio_filters(settings: LogMelSettings) -> np.ndarray:
    """The filters that training uses, float32 [N, M]."""
    return melscale_fbanks(
        n_freqs=settings.n_fft // 2 + 1,
        f_min=settings.f_min,
        f_max=settings.highest,
        n_mels=settings.n_mels,
        sample_rate=settings.sample_rate,
        norm=settings.mel_norm,
        mel_scale=settings.mel_scale,
    ).numpy()


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(("n_fft", "n_mels"), [(2048, 128), (1024, 64), (1024, 224)])
def test_the_filters_are_those_of_torchaudio(norm: str | None, scale: str, n_fft: int, n_mels: int):
    settings = LogMelSettings(n_fft=n_fft, n_mels=n_mels, mel_norm=norm, mel_scale=scale)
    # Corners, up to 16 kHz, are rounded to 2^-11 Hz a few times, by exp and pow as the processor
    # has them, and the narrowest filters rise over 20 Hz: 4 / 2^11 / 20. A norm divides by 20 Hz.
    tolerance = 5e-6 if norm else 1e-4
    theirs = torchaudio_filters(settings)
    np.testing.assert_allclose(mel_filters(settings), theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "differing",
    [
        {},
        {"power": 1},
        {"mel_scale": "htk", "mel_norm": None, "n_mels": 256},
        {"n_mels": 64, "n_fft": 1024, "hop_length": 320, "f_max": 14_000},
        {"pad_mode": "reflect"},
        {"n_mels": 224, "n_fft": 1024, "mel_scale": "htk", "top_db": 200},  # empty filters
    ],
)
def test_decibels_are_those_of_training_with_the_same_filters(differing: dict):
    settings = LogMelSettings(normalise="fixed", offset=0, scale=1, **differing)
    wave = fading_noise()
    without_torch = NumpyLogMel(settings)
    # A filter that touches one frequency with its foot multiplies the rounding of its corner, which
    # the test above bounds: here both take the same filters.
    without_torch.filters = csr_array(torchaudio_filters(settings).T)
    ours, theirs = without_torch(wave), LogMel(settings)(torch.from_numpy(wave)).numpy()
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("normalise", ["standardise", "minmax", "fixed"])
@pytest.mark.parametrize("compression", ["decibel", "pcen"])
def test_whatever_is_done_to_mels_is_what_training_does(normalise: str, compression: str):
    settings = LogMelSettings(
        normalise=normalise, compression=compression, power=1, offset=40, scale=80
    )
    wave = fading_noise()
    theirs = LogMel(settings)(torch.from_numpy(wave)).numpy()
    np.testing.assert_allclose(NumpyLogMel(settings)(wave), theirs, atol=1e-4)


def test_pcen_starts_as_it_does_in_training():
    settings = LogMelSettings(compression="pcen", normalise="fixed", offset=0, scale=1)
    settings.pcen.start = "one"
    wave = fading_noise()
    theirs = LogMel(settings)(torch.from_numpy(wave)).numpy()
    np.testing.assert_allclose(NumpyLogMel(settings)(wave), theirs, rtol=1e-4, atol=1e-4)


def test_a_window_does_not_depend_on_the_others():
    log_mel, wave = NumpyLogMel(LogMelSettings()), fading_noise()
    assert np.array_equal(log_mel(wave)[1:2], log_mel(wave[1:2]))


def test_no_windows_give_no_mels():
    assert NumpyLogMel(LogMelSettings())(np.zeros((0, 32_000), np.float32)).shape == (0, 1, 128, 63)
