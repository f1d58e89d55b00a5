"""Find duplicate recordings by hash and acoustic fingerprint, whatever their format.

Shapes: T samples, F frames, S slices of time, M bands.

Two signatures are computed while a recording is decoded, both at ``FINGERPRINT_RATE``:

- the *digest*, a hash of the samples rounded to 16 bits, is equal for equal samples;
- the *fingerprint* is similar for copies of a recording in different codecs, which change every
  sample and may add a delay. It holds the log energies of 32 bands in 32 equal slices of time:
  each band relative to its own mean (removes a codec's constant gain in a band), then centred
  along both axes (removes the stationary noise of a recorder), then with each singular value
  replaced by its square root: two songs that pause at the same times by chance share the first
  singular vectors only, copies share all.

Measured with libsndfile 1.2.2, as cosines of fingerprints. True pairs: 443 recordings (320 ESC-10
clips of 5 s, 60 bird songs, 10 field clips, 53 synthetic scenes; none above 150 s), each compared
with itself as FLAC, MP3, Opus and Vorbis of two qualities: at least 0.766, and 0.744 if the MP3 is
50 ms late. False pairs: all 254,000 pairs of those and of 271 more, mostly synthetic scenes, of any
durations: at most 0.426. (These recordings were also used to choose the method.) Not detected: a
tone in another codec; 3 % of the copies as MP3 of the lowest bit rate; of copies that are 50 ms
late, 4 % of those of 2 s, and more of shorter ones.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Sample rate in Hz of the comparison: few recordings have less, and most birds sing below 8 kHz.
FINGERPRINT_RATE = 16_000

#: Smallest cosine of the fingerprints of duplicates: midway between the values above.
MIN_COSINE = 0.6

#: Largest difference between durations of duplicates, in seconds: MP3 adds padding at both ends.
MAX_DURATION_DIFFERENCE = 0.15

#: Shortest recording with a fingerprint, in seconds: slices of a shorter one have under two frames.
MIN_SECONDS = 1.0

# Frames of 32 ms, a new one every 16 ms; bands of seven bins (219 Hz) from 125 to 7125 Hz.
_FRAME, _HOP = 512, 256
_FIRST_BIN, _NUM_BANDS, _BINS_PER_BAND = 4, 32, 7
_NUM_SLICES = 32

# Largest number of spectrogram columns that are kept of a recording.
_MAX_COLUMNS = 2048

# Energies are relative to the mean of their band plus this share of the loudest band's mean (-30
# dB: codecs drop what a much louder band masks). The offset bounds the logarithm, since codecs
# change pauses most.
_FLOOR, _OFFSET = 1e-3, 0.3

# Largest magnitude: the squares of larger values, in corrupt files of floats, would overflow.
_MAX_LEVEL = 1e9

# Smallest RMS of the centred log energies, log10: rounding of a tone or a constant gives less.
_MIN_RMS_CHANGE = 1e-3

# Fingerprints per side of a matrix product.
_TILE = 2048

# Names that systems and users give to copies: "Copy of a", "a - Copy (2)", "a copy", "a (1)".
_COPY_NAME = re.compile(r"copy of .*|.*[ _-]copy( ?\(?\d+\)?)?|.*\(\d+\)", re.IGNORECASE)
_COPY_FOLDER = re.compile(
    r"(back-?ups?|bak|old|trash|deleted|duplicates?|cop(y|ies))", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class AudioSignature:
    """Signature of a recording, for finding duplicates.

    Attributes:
        seconds: Decoded duration in seconds.
        digest: Hash of the samples; None if all are zero at 16 bits, or there are none.
        fingerprint: Unit vector, float32 [S * M]; None for a recording that is too short or does
            not change: silence, a constant, a tone.
    """

    seconds: float
    digest: str | None
    fingerprint: np.ndarray | None


class SignatureBuilder:
    """Computes the signature of a recording block by block, in bounded memory."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._num_samples = 0
        self._has_signal = False
        self._pending_samples = np.zeros(0, np.float32)  # of an incomplete frame
        self._columns = np.zeros((0, _NUM_BANDS), np.float32)
        self._pending_frames = self._columns  # frames of an incomplete column
        self._frames_per_column = 1

    def add(self, waveform: np.ndarray) -> None:
        """Add a block of samples.

        Args:
            waveform: Mono, float32 [T] at ``FINGERPRINT_RATE``.
        """
        waveform = waveform.clip(-_MAX_LEVEL, _MAX_LEVEL)
        pcm = np.rint(waveform.clip(-1, 1) * np.float32(32767)).astype("<i2")
        self._hash.update(pcm.tobytes())
        self._num_samples += len(pcm)
        self._has_signal = self._has_signal or bool(pcm.any())
        waveform = np.concatenate([self._pending_samples, waveform])
        num_frames = max((len(waveform) - _FRAME) // _HOP + 1, 0)
        self._pending_samples = waveform[num_frames * _HOP :]
        if num_frames:
            self._add_frames(_compute_band_energies(waveform))

    def _add_frames(self, energies: np.ndarray) -> None:
        """Average frames [F, M] into columns; if there are too many, double their width."""
        width = self._frames_per_column
        frames = np.concatenate([self._pending_frames, energies])
        end = len(frames) // width * width
        columns = frames[:end].reshape(-1, width, _NUM_BANDS).mean(axis=1)
        self._pending_frames = frames[end:]
        self._columns = np.concatenate([self._columns, columns])
        if len(self._columns) >= _MAX_COLUMNS:
            pairs, excess = self._columns[:_MAX_COLUMNS], self._columns[_MAX_COLUMNS:]
            self._columns = pairs.reshape(-1, 2, _NUM_BANDS).mean(axis=1)
            remaining = np.concatenate([excess.repeat(width, axis=0), self._pending_frames])
            self._frames_per_column, self._pending_frames = 2 * width, self._pending_frames[:0]
            self._add_frames(remaining)

    def signature(self) -> AudioSignature:
        """Return the signature of all samples added so far."""
        seconds = self._num_samples / FINGERPRINT_RATE
        has_fingerprint = self._has_signal and seconds >= MIN_SECONDS
        return AudioSignature(
            seconds=seconds,
            digest=self._hash.hexdigest() if self._has_signal else None,
            fingerprint=_compute_fingerprint(self._columns) if has_fingerprint else None,
        )


def _compute_band_energies(waveform: np.ndarray) -> np.ndarray:
    """Return the band energies of all complete frames, float32 [F, M]."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _FRAME)[::_HOP]
    spectrum = np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32))
    bins = spectrum[:, _FIRST_BIN : _FIRST_BIN + _NUM_BANDS * _BINS_PER_BAND]
    energy = bins.real**2 + bins.imag**2
    return energy.reshape(len(frames), _NUM_BANDS, _BINS_PER_BAND).sum(axis=2, dtype=np.float32)


def _compute_fingerprint(columns: np.ndarray) -> np.ndarray | None:
    """Compute the fingerprint [S * M] of energies [columns, M]; None if they do not change."""
    mean = columns.mean(axis=0, dtype=np.float64)
    if not mean.max() > 0:
        return None
    level = np.log10(columns / (mean + _FLOOR * mean.max()) + _OFFSET)
    # Slices overlap: a small delay moves a small part of the weight to the next slice.
    position = (np.arange(len(columns)) + 0.5) * _NUM_SLICES / len(columns)
    middle = np.arange(_NUM_SLICES)[:, None] + 0.5
    weight = (1 - np.abs(position - middle)).clip(min=0)
    slices = (weight / weight.sum(axis=1, keepdims=True)) @ level
    slices += slices.mean() - slices.mean(axis=0) - slices.mean(axis=1, keepdims=True)
    if np.sqrt((slices**2).mean()) < _MIN_RMS_CHANGE:
        return None
    left, values, right = np.linalg.svd(slices)
    flat = (left * np.sqrt(values)) @ right
    return (flat / np.linalg.norm(flat)).astype(np.float32).ravel()


def find_duplicates(signatures: Mapping[str, AudioSignature]) -> list[tuple[str, ...]]:
    """Group recordings that are duplicates, by digest and by fingerprint.

    Args:
        signatures: Signature of each recording, by path; an ``Examination`` is one too.

    Returns:
        Groups of at least two paths; paths and groups are sorted.
    """
    paths = sorted(signatures)
    first: dict[str, int] = {}  # the first recording of each digest represents the others
    copies = [
        (i, first.setdefault(d, i)) for i, p in enumerate(paths) if (d := signatures[p].digest)
    ]
    candidates = [i for i in first.values() if signatures[paths[i]].fingerprint is not None]
    candidates.sort(key=lambda i: signatures[paths[i]].seconds)
    links = [np.array(copies, int).reshape(-1, 2)]
    matches = _find_matching_pairs([signatures[paths[i]] for i in candidates])
    links += [np.array(candidates)[pairs] for pairs in matches]
    left, right = np.concatenate(links).T
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(len(paths), len(paths)))
    groups: dict[int, list[str]] = {}
    for path, group in zip(paths, connected_components(graph)[1], strict=True):
        groups.setdefault(int(group), []).append(path)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


def has_copy_name(path: str) -> bool:
    """Return whether a file, or a folder in its path, is named like a copy or backup.

    Args:
        path: Relative path with forward slashes.
    """
    *folders, name = PurePosixPath(path).with_suffix("").parts
    is_copy = any(_COPY_NAME.fullmatch(part) for part in (*folders, name))
    return is_copy or any(_COPY_FOLDER.fullmatch(folder) for folder in folders)


def _find_matching_pairs(signatures: list[AudioSignature]) -> Iterator[np.ndarray]:
    """Yield index pairs, int [pairs, 2], of matching signatures; they are sorted by duration."""
    seconds = np.array([signature.seconds for signature in signatures])
    last = np.searchsorted(seconds, seconds + MAX_DURATION_DIFFERENCE, side="right")
    for row in range(0, len(signatures), _TILE):
        rows = np.array([s.fingerprint for s in signatures[row : row + _TILE]])
        for column in range(row, last[min(row + _TILE, len(signatures)) - 1], _TILE):
            columns = np.array(
                [signature.fingerprint for signature in signatures[column : column + _TILE]]
            )
            difference = np.abs(seconds[row : row + _TILE, None] - seconds[column : column + _TILE])
            matches = (rows @ columns.T > MIN_COSINE) & (difference <= MAX_DURATION_DIFFERENCE)
            yield np.argwhere(matches) + np.array([row, column])
