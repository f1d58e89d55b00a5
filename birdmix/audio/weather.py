"""What lies between a bird and a microphone: distance, wind, insects and rain."""

from collections.abc import Callable

import numpy as np
from scipy import fft

from birdmix.audio.songs import SAMPLE_RATE

#: A bird heard at this ratio of song to background, in dB, stands one metre away.
_SNR_AT_ONE_METRE = 40.0

# Air and leaves take this many dB a metre at 8 kHz, and less below.
_ABSORPTION_AT_8_KHZ = 0.10

_REVERB_SECONDS = 0.45


def metres(snr_db: float) -> float:
    """Return the distance at which a song arrives with a ratio to the background in dB."""
    return float(10 ** ((_SNR_AT_ONE_METRE - snr_db) / 20))


def carry(song: np.ndarray, distance: float, echo: np.ndarray) -> np.ndarray:
    """Carry a song over a distance: high frequencies fade, and the echo gains on the direct sound.

    Args:
        song: Waveform, float32 [T].
        distance: Metres.
        echo: The place's echo from ``draw_echo``, float32.

    Returns:
        Waveform with the echo's tail, float32, at the RMS of the song.
    """
    num_samples = len(song) + len(echo)
    size = fft.next_fast_len(num_samples, real=True)
    wet = min(0.05 * np.sqrt(distance), 0.8)
    kilohertz = fft.rfftfreq(size, 1 / SAMPLE_RATE) / 1000
    loss = distance * _ABSORPTION_AT_8_KHZ * (kilohertz / 8) ** 1.5
    path = (10 ** (-loss / 20)).astype(np.float32) * (1 + np.float32(wet) * fft.rfft(echo, size))
    heard = fft.irfft(fft.rfft(song, size) * path, size)[:num_samples]
    return heard * np.sqrt(np.sum(np.square(song)) / np.sum(np.square(heard)))


def draw_echo(rng: np.random.Generator) -> np.ndarray:
    """Draw a place's echo: decaying noise of unit energy, float32."""
    time = np.arange(int(_REVERB_SECONDS * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    echo = rng.standard_normal(len(time), np.float32)
    echo *= np.exp(-time / np.float32(rng.uniform(0.05, 0.12)))
    echo[: int(0.008 * SAMPLE_RATE)] = 0  # the nearest tree is a few metres off
    return echo / np.sqrt(np.sum(np.square(echo)))


def draw_weather(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the background of a recording: wind always, insects and rain sometimes.

    Returns:
        Waveform, float32 [T], RMS about 1.
    """
    background = _wind(num_samples, rng)
    for _ in range(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2])):
        background += _insect(num_samples, rng)
    if rng.random() < 0.25:
        background += _rain(num_samples, rng)
    return background / np.sqrt(np.mean(np.square(background)))


def _wind(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Leaves and far traffic as pink noise, gusts of wind below some 300 Hz."""
    slope = rng.uniform(0.5, 0.9)
    corner = rng.uniform(120, 350)
    leaves = _noise(num_samples, lambda hertz: np.maximum(hertz, 60) ** -slope, rng)
    gusts = _noise(num_samples, lambda hertz: np.exp(-hertz / corner), rng)
    return leaves + rng.uniform(0.2, 1.5) * gusts * _swell(num_samples, rng)


def _insect(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A cricket or cicada: a narrow band that chirps."""
    pitch, width = rng.uniform(3500, 9500), rng.uniform(40, 350)
    band = _noise(num_samples, lambda hertz: np.exp(-(((hertz - pitch) / width) ** 2)), rng)
    time = np.arange(num_samples, dtype=np.float32) / SAMPLE_RATE
    rate, share = np.float32(rng.uniform(2, 30)), np.float32(rng.uniform(-0.6, 0.8))
    chirps = np.clip(4 * (np.sin(2 * np.pi * rate * time) + share), 0, 1)
    return rng.uniform(0.05, 0.35) * band * chirps


def _rain(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Rain: a hiss, and drops that hit near the microphone."""
    hiss = _noise(num_samples, lambda hertz: hertz / (hertz + 1500), rng)
    drops = np.zeros(num_samples, np.float32)
    hits = rng.integers(num_samples, size=int(num_samples / SAMPLE_RATE * rng.uniform(2, 12)))
    drops[hits] = rng.exponential(size=len(hits))
    tap = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * rng.uniform(0.15, 0.5))
    drops = np.convolve(drops, tap.astype(np.float32))[:num_samples]
    return rng.uniform(0.1, 0.4) * hiss + rng.uniform(0.5, 3) * drops


def _noise(
    num_samples: int, amplitude: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Gaussian noise of unit RMS whose amplitude is a function of the frequency in Hz."""
    size = fft.next_fast_len(num_samples, real=True)
    hertz = fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal(2 * len(hertz), np.float32).view(np.complex64)
    spectrum *= amplitude(hertz).astype(np.float32)
    noise = fft.irfft(spectrum, size)[:num_samples]
    return noise / np.sqrt(np.mean(np.square(noise)))


def _swell(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A level between 0 and 1 that wanders over seconds, float32."""
    num_points = 2 + num_samples // (2 * SAMPLE_RATE)
    points = np.linspace(0, num_samples, num_points)
    return np.interp(np.arange(num_samples), points, rng.random(num_points)).astype(np.float32)


def band_rms(waveform: np.ndarray, low: float, high: float) -> float:
    """Return the RMS of what a waveform holds between two frequencies in Hz."""
    size = fft.next_fast_len(len(waveform), real=True)
    spectrum = fft.rfft(waveform, size)
    first, last = (int(hertz / SAMPLE_RATE * size) for hertz in (low, high))
    return float(
        np.sqrt(2 * np.sum(np.abs(spectrum[first : last + 1]) ** 2) / size / len(waveform))
    )
