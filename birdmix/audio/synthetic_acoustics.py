"""Acoustics of synthetic scenes: propagation, reverberation, and noise of wind, insects and rain.

Shapes: T samples, E samples of an impulse response.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft

from birdmix.audio.synthetic_songs import SAMPLE_RATE

#: Ratio of song to background in dB of a bird at a distance of one metre.
_SNR_AT_ONE_METRE = 40.0

# Absorption by air and leaves at 8 kHz, in dB per metre; it is less at lower frequencies.
_ABSORPTION_AT_8_KHZ = 0.10

_REVERB_SECONDS = 0.45


def distance_from_snr(snr_db: float) -> float:
    """Return the distance of a bird in metres.

    Args:
        snr_db: Ratio of its song to the background, in dB.
    """
    return float(10 ** ((_SNR_AT_ONE_METRE - snr_db) / 20))


def apply_distance_and_reverb(
    song: np.ndarray, distance: float, impulse_response: np.ndarray
) -> np.ndarray:
    """Simulate a distance: attenuate high frequencies and add reverberation.

    Args:
        song: Waveform, float32 [T].
        distance: Metres; with it absorption and the share of reverberation increase.
        impulse_response: Impulse response from ``draw_impulse_response``, float32 [E].

    Returns:
        Waveform with the energy of the song, float32 [T + E].
    """
    num_samples = len(song) + len(impulse_response)
    size = fft.next_fast_len(num_samples, real=True)
    wet = min(0.05 * np.sqrt(distance), 0.8)
    kilohertz = fft.rfftfreq(size, 1 / SAMPLE_RATE) / 1000
    loss = distance * _ABSORPTION_AT_8_KHZ * (kilohertz / 8) ** 1.5
    attenuation = (10 ** (-loss / 20)).astype(np.float32)
    response = attenuation * (1 + np.float32(wet) * fft.rfft(impulse_response, size))
    reverberant = fft.irfft(fft.rfft(song, size) * response, size)[:num_samples]
    return reverberant * np.sqrt(np.sum(np.square(song)) / np.sum(np.square(reverberant)))


def draw_impulse_response(rng: np.random.Generator) -> np.ndarray:
    """Draw an impulse response of reverberation: decaying noise of unit energy.

    Args:
        rng: Source of randomness.

    Returns:
        float32 [E] at ``SAMPLE_RATE``.
    """
    time = np.arange(int(_REVERB_SECONDS * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    impulse_response = rng.standard_normal(len(time), np.float32)
    impulse_response *= np.exp(-time / np.float32(rng.uniform(0.05, 0.12)))
    impulse_response[: int(0.008 * SAMPLE_RATE)] = 0  # the nearest tree is a few metres away
    return impulse_response / np.sqrt(np.sum(np.square(impulse_response)))


def draw_background_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw background noise: always wind, sometimes insects and rain.

    Args:
        num_samples: Length T, at ``SAMPLE_RATE``.
        rng: Source of randomness.

    Returns:
        Waveform with unit RMS, float32 [T].
    """
    background = _draw_wind(num_samples, rng)
    for _ in range(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])):
        background += _draw_insect(num_samples, rng)
    if rng.random() < 0.25:
        background += _draw_rain(num_samples, rng)
    return background / np.sqrt(np.mean(np.square(background)))


def _draw_wind(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw noise of leaves and distant traffic (about pink) and gusts of wind below some 300 Hz."""
    slope = rng.uniform(0.5, 0.9)
    corner = rng.uniform(120, 350)
    leaves = _draw_shaped_noise(num_samples, lambda hertz: np.maximum(hertz, 60) ** -slope, rng)
    gusts = _draw_shaped_noise(num_samples, lambda hertz: np.exp(-hertz / corner), rng)
    return leaves + rng.uniform(0.2, 1.5) * gusts * _draw_slow_level(num_samples, rng)


def _draw_insect(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a cricket or cicada: narrow-band noise in pulses."""
    pitch, width = rng.uniform(3500, 9500), rng.uniform(40, 350)
    band = _draw_shaped_noise(
        num_samples, lambda hertz: np.exp(-(((hertz - pitch) / width) ** 2)), rng
    )
    time = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE
    rate, share = np.float32(rng.uniform(2, 30)), np.float32(rng.uniform(-0.6, 0.8))
    chirps = np.clip(4 * (np.sin(2 * np.pi * rate * time) + share), 0, 1)
    return rng.uniform(0.05, 0.35) * band * chirps


def _draw_rain(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rain: a hiss, and single drops near the microphone."""
    hiss = _draw_shaped_noise(num_samples, lambda hertz: hertz / (hertz + 1500), rng)
    drops = np.zeros(num_samples, np.float32)
    hits = rng.integers(num_samples, size=int(num_samples / SAMPLE_RATE * rng.uniform(2, 12)))
    drops[hits] = rng.exponential(size=len(hits))
    tap = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * rng.uniform(0.15, 0.5))
    drops = np.convolve(drops, tap.astype(np.float32))[:num_samples]
    return rng.uniform(0.1, 0.4) * hiss + rng.uniform(0.5, 3) * drops


def _draw_shaped_noise(
    num_samples: int, amplitude: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Draw Gaussian noise of unit RMS with an amplitude spectrum given as a function of Hz."""
    size = fft.next_fast_len(num_samples, real=True)
    hertz = fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal(2 * len(hertz), np.float32).view(np.complex64)
    spectrum *= amplitude(hertz).astype(np.float32)
    noise = fft.irfft(spectrum, size)[:num_samples]
    return noise / np.sqrt(np.mean(np.square(noise)))


def _draw_slow_level(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a level between 0 and 1 that varies over seconds, float32 [T]."""
    num_points = 2 + num_samples // (2 * SAMPLE_RATE)
    points = np.linspace(0, num_samples, num_points)
    return np.interp(np.arange(num_samples), points, rng.random(num_points)).astype(np.float32)


def band_rms(waveform: np.ndarray, low: float, high: float) -> float:
    """Return the RMS of a waveform between two frequencies.

    Args:
        waveform: float32 [T] at ``SAMPLE_RATE``.
        low: Lower frequency in Hz.
        high: Upper frequency in Hz.
    """
    size = fft.next_fast_len(len(waveform), real=True)
    spectrum = fft.rfft(waveform, size)
    first, last = (int(hertz / SAMPLE_RATE * size) for hertz in (low, high))
    return float(
        np.sqrt(2 * np.sum(np.abs(spectrum[first : last + 1]) ** 2) / size / len(waveform))
    )
