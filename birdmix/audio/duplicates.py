"""Tell which recordings hold the same sound, whatever their format.

Shapes: T samples, F frames, S slices of time, M bands.

Two prints are taken while a recording is decoded, both at ``RATE``:

- the *digest*, a hash of the samples rounded to 16 bits, is equal where the samples are;
- the *fingerprint* is alike where one recording was encoded by several codecs, which changes every
  sample and may delay all of them. It holds the log energies of 32 bands in 32 equal slices of
  time: each band relative to its own mean (what a codec does to a band for good drops out), twice
  centred (so does a stationary noise of one recorder), then with the square roots of its singular
  values in their place: two songs that pause at the same moments by chance share the first of
  these patterns only, a copy shares all.

Measured with libsndfile 1.2.2, as cosines of fingerprints. True pairs: 443 recordings (320 ESC-10
clips of 5 s, 60 bird songs, 10 field clips, 53 synthetic scenes; none above 150 s), each against
itself as FLAC, MP3, Opus and Vorbis of two qualities: at least 0.766, and 0.744 where the MP3 is
50 ms late. False pairs: all 254,000 pairs of those and of 271 more, mostly synthetic scenes,
whatever their durations: at most 0.426. (The recipe was chosen by these recordings too.) What it
misses: a tone in another codec; MP3 of the lowest bit rate (3 % below ``SAME_SOUND``); a copy that
is 50 ms late if it lasts 2 s (4 %) or less.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Hz at which recordings are compared: what all of them have, and where most birds sing.
RATE = 16_000

#: Fingerprints whose cosine is above this are those of one sound: midway between the figures above.
SAME_SOUND = 0.6

#: Copies last equally long, up to this many seconds: what MP3 adds at both ends.
SAME_SECONDS = 0.15

#: A shorter recording has no fingerprint: its slices would be shorter than two frames.
MIN_SECONDS = 1.0

# Frames of 32 ms, a new one every 16 ms; bands of seven bins (219 Hz) from 125 to 7125 Hz.
_FRAME, _HOP = 512, 256
_FIRST_BIN, _NUM_BANDS, _BINS_PER_BAND = 4, 32, 7
_NUM_SLICES = 32

# A recording of any length is kept as this many columns at most.
_MOST_COLUMNS = 2048

# Energies are taken relative to their band's mean, and to this share of the loudest band's (-30 dB:
# codecs leave out what stands beside something so much louder); the offset bounds the logarithm,
# since pauses are what codecs change most.
_FLOOR, _OFFSET = 1e-3, 0.3

# Broken files of floats hold what would be infinite if squared.
_MOST_LEVEL = 1e9

# Less RMS change than this (in powers of ten) is what rounding makes of a tone or a constant.
_LEAST_CHANGE = 1e-3

# Fingerprints per side of a matrix product.
_TILE = 2048

# What systems and people call copies: "Copy of a", "a - Copy (2)", "a copy", "a (1)", "a_copy".
_COPY = re.compile(r"copy of .*|.*[ _-]copy( ?\(?\d+\)?)?|.*\(\d+\)", re.IGNORECASE)
_COPIES = re.compile(r"(back-?ups?|bak|old|trash|deleted|duplicates?|cop(y|ies))", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Sound:
    """What tells one recording's sound from another's.

    Attributes:
        seconds: How much was decoded.
        digest: Hash of its samples; None where there are none, or none that 16 bits tell from zero.
        fingerprint: Unit vector, float32 [S * M]; None for a recording that is too short, or in
            which nothing changes: silence, a constant, a tone.
    """

    seconds: float
    digest: str | None
    fingerprint: np.ndarray | None


class Prints:
    """Takes the prints of a recording, block by block, in bounded memory."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._num_samples = 0
        self._sounds = False
        self._rest = np.zeros(0, np.float32)  # samples that await the rest of their frame
        self._columns = np.zeros((0, _NUM_BANDS), np.float32)
        self._waiting = self._columns  # frames that await the rest of their column
        self._width = 1  # frames per column

    def add(self, waveform: np.ndarray) -> None:
        """Take the next block, float32 [T] at ``RATE``."""
        waveform = waveform.clip(-_MOST_LEVEL, _MOST_LEVEL)
        steps = np.rint(waveform.clip(-1, 1) * np.float32(32767)).astype("<i2")
        self._hash.update(steps.tobytes())
        self._num_samples += len(steps)
        self._sounds = self._sounds or bool(steps.any())
        waveform = np.concatenate([self._rest, waveform])
        num_frames = max((len(waveform) - _FRAME) // _HOP + 1, 0)
        self._rest = waveform[num_frames * _HOP :]
        if num_frames:
            self._keep(_band_energies(waveform))

    def _keep(self, energies: np.ndarray) -> None:
        """Gather frames [F, M] into columns; where these get too many, make them twice as wide."""
        waiting = np.concatenate([self._waiting, energies])
        whole = len(waiting) // self._width * self._width
        fresh = waiting[:whole].reshape(-1, self._width, _NUM_BANDS).mean(axis=1)
        self._waiting = waiting[whole:]
        self._columns = np.concatenate([self._columns, fresh])
        if len(self._columns) >= _MOST_COLUMNS:
            pairs, beyond = self._columns[:_MOST_COLUMNS], self._columns[_MOST_COLUMNS:]
            self._columns = pairs.reshape(-1, 2, _NUM_BANDS).mean(axis=1)
            again = np.concatenate([beyond.repeat(self._width, axis=0), self._waiting])
            self._width, self._waiting = 2 * self._width, self._waiting[:0]
            self._keep(again)

    def sound(self) -> Sound:
        """Return the prints of all that was taken."""
        seconds = self._num_samples / RATE
        known = self._sounds and seconds >= MIN_SECONDS
        return Sound(
            seconds=seconds,
            digest=self._hash.hexdigest() if self._sounds else None,
            fingerprint=_fingerprint(self._columns) if known else None,
        )


def _band_energies(waveform: np.ndarray) -> np.ndarray:
    """Return the energies of all whole frames in all bands, float32 [F, M]."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP]
    spectrum = np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32))
    bins = spectrum[:, _FIRST_BIN : _FIRST_BIN + _NUM_BANDS * _BINS_PER_BAND]
    energy = bins.real**2 + bins.imag**2
    return energy.reshape(len(frames), _NUM_BANDS, _BINS_PER_BAND).sum(axis=2, dtype=np.float32)


def _fingerprint(columns: np.ndarray) -> np.ndarray | None:
    """Turn energies [columns, M] into a fingerprint [S * M], None where nothing changes."""
    mean = columns.mean(axis=0, dtype=np.float64)
    if not mean.max() > 0:
        return None
    level = np.log10(columns / (mean + _FLOOR * mean.max()) + _OFFSET)
    # Slices overlap: a sound that is late by a part of a slice moves a part of its weight.
    place = (np.arange(len(columns)) + 0.5) * _NUM_SLICES / len(columns)
    middle = np.arange(_NUM_SLICES)[:, None] + 0.5
    weight = (1 - np.abs(place - middle)).clip(min=0)
    slices = (weight / weight.sum(axis=1, keepdims=True)) @ level
    slices += slices.mean() - slices.mean(axis=0) - slices.mean(axis=1, keepdims=True)
    if np.sqrt((slices**2).mean()) < _LEAST_CHANGE:
        return None
    left, values, right = np.linalg.svd(slices)
    flat = (left * np.sqrt(values)) @ right
    return (flat / np.linalg.norm(flat)).astype(np.float32).ravel()


def find_duplicates(sounds: Mapping[str, Sound]) -> list[tuple[str, ...]]:
    """Group the recordings that hold the same sound, by digest and by fingerprint.

    Args:
        sounds: What is known of each recording, by path; an ``Examination`` is a ``Sound``.

    Returns:
        Groups of at least two paths, each sorted, in order.
    """
    paths = sorted(sounds)
    first: dict[str, int] = {}  # the first recording of each digest; it stands for the others
    copies = [(i, first.setdefault(d, i)) for i, p in enumerate(paths) if (d := sounds[p].digest)]
    printed = [i for i in first.values() if sounds[paths[i]].fingerprint is not None]
    printed.sort(key=lambda i: sounds[paths[i]].seconds)
    links = [np.array(copies, int).reshape(-1, 2)]
    links += [np.array(printed)[pairs] for pairs in _alike([sounds[paths[i]] for i in printed])]
    one, two = np.concatenate(links).T
    graph = coo_array((np.ones(len(one)), (one, two)), shape=(len(paths), len(paths)))
    groups: dict[int, list[str]] = {}
    for path, group in zip(paths, connected_components(graph)[1], strict=True):
        groups.setdefault(int(group), []).append(path)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


def is_named_as_copy(path: str) -> bool:
    """Tell whether a name, or that of a folder on the way, is one that is given to copies."""
    *folders, name = PurePosixPath(path).with_suffix("").parts
    copied = any(_COPY.fullmatch(each) for each in (*folders, name))
    return copied or any(_COPIES.fullmatch(each) for each in folders)


def _alike(sounds: list[Sound]) -> Iterator[np.ndarray]:
    """Yield pairs of places, int [pairs, 2], of sounds alike; they come sorted by duration."""
    seconds = np.array([sound.seconds for sound in sounds])
    last = np.searchsorted(seconds, seconds + SAME_SECONDS, side="right")
    for row in range(0, len(sounds), _TILE):
        rows = np.array([sound.fingerprint for sound in sounds[row : row + _TILE]])
        for column in range(row, last[min(row + _TILE, len(sounds)) - 1], _TILE):
            columns = np.array([sound.fingerprint for sound in sounds[column : column + _TILE]])
            apart = np.abs(seconds[row : row + _TILE, None] - seconds[column : column + _TILE])
            found = (rows @ columns.T > SAME_SOUND) & (apart <= SAME_SECONDS)
            yield np.argwhere(found) + np.array([row, column])
