"""A-weighted levels."""

import numpy as np
import pytest

from birdmix.audio.loudness import a_weighting, apply_a_weighting, rms_db

RATE = 32_000


def tone(frequency: float, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)


def level(waveform: np.ndarray) -> float:
    return rms_db(apply_a_weighting(waveform, RATE))


@pytest.mark.parametrize(
    ("frequency", "weight_db"),
    [(31.623, -39.4), (100, -19.1), (200, -10.9), (1000, 0.0), (2500, 1.3), (8000, -1.1)],
)
def test_weights_are_those_of_the_standard(frequency: float, weight_db: float):
    weight = 20 * np.log10(a_weighting(np.array([frequency])))
    np.testing.assert_allclose(weight, weight_db, atol=0.06)  # the standard rounds to 0.1 dB


def test_a_tone_of_1_khz_has_the_level_of_its_rms():
    np.testing.assert_allclose(level(tone(1000)), 20 * np.log10(0.5 / np.sqrt(2)), atol=1e-3)


def test_rumble_at_ten_times_the_amplitude_hardly_changes_the_level_of_a_song():
    song, rumble = tone(4000, 0.05), tone(20, 0.5)
    assert rms_db(song + rumble) - rms_db(song) > 20
    np.testing.assert_allclose(level(song + rumble), level(song), atol=0.1)


def test_a_constant_offset_has_no_level():
    np.testing.assert_allclose(level(tone(1000) + 0.3), level(tone(1000)), atol=1e-6)
    assert rms_db(np.zeros(8)) == -np.inf
