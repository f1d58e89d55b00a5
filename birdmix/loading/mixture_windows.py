"""Excerpts for test mixtures: loud windows of recordings as sources, quiet ones as noise beds.

Shapes: T samples of a window, F frames of half a second, N rows.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from birdmix.audio.loudness import apply_a_weighting, rms_db
from birdmix.loading.audio_store import AudioStore
from birdmix.loading.segment_extraction import fill_up
from birdmix.recordings.recordings_table import Recordings

#: A source's window is at most this much below the loudest of its recording, in dB.
LOUD_RANGE_DB = 6.0

#: A quiet part is at least this much below its recording's loudest window, if there is such a part.
MIN_CONTRAST_DB = 10.0

#: Sound below this level is not used: 16 bits round at -101 dB, which must stay inaudible when a
#: quiet part is amplified.
MIN_LEVEL_DB = -70.0

# Longest part of a recording that is searched, in seconds: each thread has one of them in memory.
_MAX_SEARCHED_SECONDS = 300.0

# Frames that are weighted at a time.
_FRAMES_AT_A_TIME = 64

_FRAME_SECONDS = 0.5

# The frames of a recording that count as quiet.
_QUIET_FRACTION = 1 / 3

# Overlap of joined frames, in seconds, in which one is faded out and the next one in.
_FADE_SECONDS = 0.02


class SearchedRow(NamedTuple):
    """What was found in a row's recording.

    Attributes:
        starts: Starts of loud windows that do not overlap, the loudest first, in samples; empty
            if no window reaches ``MIN_LEVEL_DB``.
        level_db: A-weighted level of the loudest window.
        quiet_starts: Starts of its quiet frames in the order of time, in samples.
        quiet_level_db: A-weighted level of the quiet frames; infinity if there are none.
    """

    starts: tuple[int, ...]
    level_db: float
    quiet_starts: tuple[int, ...]
    quiet_level_db: float

    @property
    def contrast_db(self) -> float:
        """Level of the loudest window above the quiet frames, in dB."""
        return self.level_db - self.quiet_level_db


class MixtureWindows:
    """Windows of the recordings of a table.

    Args:
        store: Samples of the recordings.
        recordings: The table, N rows; a row that is a span of its recording is searched alone.
        sample_rate: Hz.
        num_samples: Length of a window T.
        fill_method: How shorter recordings are filled up, see ``fill_up``.
    """

    def __init__(
        self,
        store: AudioStore,
        recordings: Recordings,
        *,
        sample_rate: int,
        num_samples: int,
        fill_method: str,
    ) -> None:
        self.store = store
        self.sample_rate, self.num_samples = sample_rate, num_samples
        self.fill_method = fill_method
        self.frame = max(min(round(_FRAME_SECONDS * sample_rate), num_samples), 1)
        #: Whether each row has a label, bool [N].
        self.is_labelled = np.diff(recordings.ragged_column("label")[0]) > 0
        self._files = store.file_numbers_of_rows(recordings)
        lengths = store.lengths[self._files]
        start, end = (recordings.numeric_column(name) * sample_rate for name in ("start", "end"))
        self._first = np.minimum(np.nan_to_num(start).round().astype(np.int64), lengths - 1)
        last = np.where(np.isnan(end), lengths, np.minimum(np.nan_to_num(end).round(), lengths))
        self._last = np.maximum(last.astype(np.int64), self._first + 1)
        self.search = cache(self._search)

    def read_source(self, row: int, start: int, rng: np.random.Generator) -> np.ndarray:
        """Return a window, filled up if the row is shorter: float32 [T].

        Args:
            row: Row of the table.
            start: First sample, one of ``search(row).starts``.
            rng: Source of randomness for ``fill_up``.
        """
        length = min(self.num_samples, int(self._last[row]) - start)
        piece = self.store.read(int(self._files[row]), start, length)
        return fill_up(piece, self.num_samples, self.fill_method, rng)

    def draw_quiet_bed(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Join quiet frames of a row, drawn at random and in the order of time.

        Sounds that stand out are left out, and the noise between them is kept.
        Source: the noise parts of Sprengel et al. 2016 (BirdCLEF 2016), there chosen from
        spectrograms by their median; departure: the quietest third of frames of half a second, by
        A-weighted level, with cross-fades.

        Args:
            row: Row of the table that has quiet frames.
            rng: Source of randomness.

        Returns:
            float32 [T], repeated if the frames are fewer; and the start of the first in seconds.
        """
        quiet = np.array(self.search(row).quiet_starts)
        num_needed = -(-self.num_samples // self.frame) + 1  # fades take less than a frame of it
        if len(quiet) > num_needed:
            quiet = np.sort(rng.choice(quiet, num_needed, replace=False))
        file, last = int(self._files[row]), int(self._last[row])
        frames = [self.store.read(file, int(s), min(self.frame, last - int(s))) for s in quiet]
        shortest = min(map(len, frames))
        fade = min(round(_FADE_SECONDS * self.sample_rate), shortest // 4)
        repeats = -(-self.num_samples // (len(frames) * (shortest - fade))) + 1
        bed = _join_with_fades(frames * repeats, fade)[: self.num_samples]
        return bed, int(quiet[0]) / self.sample_rate

    def draw_window_as_bed(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return a random one of the loud windows of a row: float32 [T], and its start in s."""
        start = int(rng.choice(self.search(row).starts))
        return self.read_source(row, start, rng), start / self.sample_rate

    def level_db(self, waveform: np.ndarray) -> float:
        """Return the A-weighted level of a waveform in dB relative to full scale."""
        return rms_db(apply_a_weighting(waveform, self.sample_rate))

    def _search(self, row: int) -> SearchedRow:
        """Search the beginning of a row for loud windows and quiet frames."""
        first, last = int(self._first[row]), int(self._last[row])
        length = min(last - first, round(_MAX_SEARCHED_SECONDS * self.sample_rate))
        waveform = self.store.read(int(self._files[row]), first, length)
        power = self._weighted_frame_powers(waveform)
        starts, level = self._find_loud_windows(power, len(waveform))
        audible = self._frame_powers(waveform) >= 10 ** (MIN_LEVEL_DB / 10)
        quiet = np.flatnonzero(audible)[np.argsort(power[audible], kind="stable")]
        quiet = np.sort(quiet[: max(int(len(power) * _QUIET_FRACTION), 1)])
        quiet_level = 10 * np.log10(power[quiet].mean()) if len(quiet) else np.inf
        return SearchedRow(
            tuple(first + start for start in starts),
            level,
            tuple((first + quiet * self.frame).tolist()),
            float(quiet_level),
        )

    def _weighted_frame_powers(self, waveform: np.ndarray) -> np.ndarray:
        """Return the mean square of each frame after A-weighting, float64 [F]."""
        block, powers = self.frame * _FRAMES_AT_A_TIME, []
        for begin in range(0, len(waveform), block):
            first = max(begin - self.frame, 0)  # a frame on either side, where the filter settles
            piece = waveform[first : begin + block + self.frame]
            weighted = apply_a_weighting(piece, self.sample_rate)[begin - first :][:block]
            powers.append(self._frame_powers(weighted))
        return np.concatenate(powers)

    def _frame_powers(self, waveform: np.ndarray) -> np.ndarray:
        """Return the mean square of each frame, float64 [F]; the last frame may be shorter."""
        starts = np.arange(0, len(waveform), self.frame)
        sums = np.add.reduceat(np.square(waveform, dtype=np.float64), starts)
        powers = sums / np.diff(np.append(starts, len(waveform)))
        return np.maximum(powers, np.finfo(np.float64).tiny)

    def _find_loud_windows(self, power: np.ndarray, length: int) -> tuple[list[int], float]:
        """Return starts of windows within ``LOUD_RANGE_DB`` of the loudest, and its level in dB.

        Args:
            power: Mean square of each frame, [F].
            length: Samples searched.
        """
        num_frames = min(max(round(self.num_samples / self.frame), 1), len(power))
        sums = np.concatenate([[0.0], np.cumsum(power)])
        level = 10 * np.log10((sums[num_frames:] - sums[:-num_frames]) / num_frames + 1e-30)
        loudest = float(level.max())
        if loudest < MIN_LEVEL_DB:
            return [], loudest
        found: list[int] = []
        for frame in np.argsort(-level, kind="stable").tolist():
            if level[frame] < loudest - LOUD_RANGE_DB:
                break
            start = min(frame * self.frame, max(length - self.num_samples, 0))
            if all(abs(start - other) >= self.num_samples for other in found):
                found.append(start)
        return found, loudest


def _join_with_fades(pieces: list[np.ndarray], fade: int) -> np.ndarray:
    """Join waveforms; each fades into the next one within ``fade`` samples, at equal power.

    Args:
        pieces: Waveforms, each at least twice as long as a fade.
        fade: Samples of a fade.
    """
    angle = (np.arange(fade, dtype=np.float32) + 0.5) * np.float32(np.pi / 2 / max(fade, 1))
    joined = [pieces[0]]
    for piece in pieces[1:]:
        before = joined.pop()
        overlap = before[len(before) - fade :] * np.cos(angle) + piece[:fade] * np.sin(angle)
        joined += [before[: len(before) - fade], overlap, piece[fade:]]
    return np.concatenate(joined)
