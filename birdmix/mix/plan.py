"""The plan of a mix: who is mixed into whom, how loud, and where.

Shapes: B batch, P pool, S sources, M mel bins, T last axis (samples or frames).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """One box per sample, in fractions of its axes: it fits waveforms, mels and feature maps.

    Attributes:
        time: Begin and end along the last axis, in [0, 1], float64 [B, 2].
        mel: The same along the last axis but one; (0, 1) is all of it, and fits waveforms too.
    """

    time: np.ndarray
    mel: np.ndarray

    def cells(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes' bounds on a tensor's grid: time and mel, int64 [B, 2] each.

        Args:
            shape: Of the tensor, [B, ..., T].

        Raises:
            ValueError: If a box leaves out frequencies and the tensor has no such axis.
        """
        if len(shape) < 3:
            if not (self.mel == (0, 1)).all():
                raise ValueError(
                    f"a box in frequency needs spectrograms [B, M, F] or [B, C, M, F], got shape "
                    f"{list(shape)}; cut waveforms in time: axis='time'"
                )
            return _rounded(self.time, shape[-1]), np.tile((0, 1), (len(self.mel), 1))
        return _rounded(self.time, shape[-1]), _rounded(self.mel, shape[-2])

    def areas(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the share of a tensor's cells that each box covers, float64 [B]."""
        time, mel = self.cells(shape)
        num_mels = shape[-2] if len(shape) >= 3 else 1
        return np.diff(time)[:, 0] * np.diff(mel)[:, 0] / (shape[-1] * num_mels)


def _rounded(fractions: np.ndarray, length: int) -> np.ndarray:
    return np.rint(fractions * length).astype(np.int64)


@dataclass(frozen=True)
class Plan:
    """A small, replayable description of one mixed batch.

    The batch is followed, virtually, by the pool: a source of B or more is row ``source - B`` of
    the pool. A sample with fewer sources than S fills its unused slots with itself at gain 0; an
    unused slot is never read, so a broken sample cannot reach one that it was not mixed into.

    Attributes:
        source: Row of each source, int64 [B, S]; column 0 is the sample itself.
        gain: Linear gain of each source, float32 [B, S]; [1, 0, ...] where nothing is mixed.
        boxes: Where the partner stands in the sample's place, for plans of two sources; None adds
            whole sources.
        matched: Before the gains, partners are brought to the sample's own RMS.
    """

    source: np.ndarray
    gain: np.ndarray
    boxes: Boxes | None = None
    matched: bool = False

    @staticmethod
    def identity(batch_size: int) -> "Plan":
        """Return the plan that mixes nothing."""
        return Plan(np.arange(batch_size)[:, None], np.ones((batch_size, 1), np.float32))

    def where(self, mixed: np.ndarray) -> "Plan":
        """Return the plan that mixes only some samples, ``mixed`` bool [B]."""
        if mixed.all():
            return self
        own = np.eye(1, self.source.shape[1], dtype=np.float32)
        source = np.where(mixed[:, None], self.source, np.arange(len(self.source))[:, None])
        gain = np.where(mixed[:, None], self.gain, own)
        return Plan(source, gain, self.boxes, self.matched)

    @property
    def is_identity(self) -> bool:
        """Whether the plan changes nothing."""
        return bool((self.gain[:, 0] == 1).all() and (self.gain[:, 1:] == 0).all())

    @property
    def used(self) -> np.ndarray:
        """Which slots hold a source, bool [B, S]."""
        return self.gain != 0

    @property
    def num_sources(self) -> np.ndarray:
        """Sources of each sample, int64 [B]."""
        return self.used.sum(axis=1)

    @property
    def num_self_pairs(self) -> int:
        """How often a sample was mixed with itself; a correct draw has none."""
        own = self.source[:, 1:] == np.arange(len(self.source))[:, None]
        return int((own & self.used[:, 1:]).sum())

    def parts(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return what part of each sample its sources are, float32 [B, S], adding up to 1.

        A part is a gain or, where there are boxes, a gain times an area, over the sample's sum.

        Args:
            shape: Of the tensor that is mixed; boxes are rounded to its grid.
        """
        amount = self.gain
        if self.boxes is not None:
            area = np.where(self.used[:, 1], self.boxes.areas(shape), 0)
            amount = self.gain * np.stack([1 - area, area], axis=1)
        return (amount / amount.sum(axis=1, keepdims=True)).astype(np.float32)
