"""The plan of a mix: who is mixed into whom, how loud, and where.

Shapes: B batch, P pool, S sources, M mel bins, T last axis (samples or frames).
"""

from dataclasses import dataclass

import numpy as np

# Rounding may carry the end of a box this far beyond 1.
_EPS = 1e-9


@dataclass(frozen=True, eq=False)
class Boxes:
    """One box per sample, in fractions of its axes: it fits waveforms, mels and feature maps.

    Boxes are equal if their bounds are. They are not hashable: arrays can be changed.

    Attributes:
        time: Begin and end along the last axis, in [0, 1], float64 [B, 2].
        mel: The same along the last axis but one; (0, 1) is all of it, and fits waveforms too.

    Raises:
        ValueError: If the bounds of a box are not begin <= end in [0, 1].
    """

    time: np.ndarray
    mel: np.ndarray

    def __post_init__(self) -> None:
        for name in ("time", "mel"):
            bounds = np.ascontiguousarray(getattr(self, name), np.float64)
            if bounds.ndim != 2 or bounds.shape[1] != 2 or len(bounds) != len(self.time):
                raise ValueError(
                    f"the boxes' {name} has shape {list(bounds.shape)}; pass the begin and the end "
                    "of each sample's box, [B, 2]"
                )
            ordered = (bounds[:, 0] <= bounds[:, 1]).all()
            if not (
                ordered and bounds.min(initial=0) >= -_EPS and bounds.max(initial=0) <= 1 + _EPS
            ):
                raise ValueError(
                    f"the boxes' {name} reaches from {bounds.min():g} to {bounds.max():g}; a box "
                    "lies in [0, 1] and begins before it ends"
                )
            object.__setattr__(self, name, bounds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Boxes):
            return NotImplemented
        return np.array_equal(self.time, other.time) and np.array_equal(self.mel, other.mel)

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
        return np.diff(time)[:, 0] * np.diff(mel)[:, 0] / max(shape[-1] * num_mels, 1)


def _rounded(fractions: np.ndarray, length: int) -> np.ndarray:
    return np.rint(fractions * length).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Plan:
    """A small, replayable description of one mixed batch.

    Plans are equal if they mix alike: the same sources, gains, boxes and matching. They are not
    hashable: arrays can be changed.

    The batch is followed, virtually, by the pool: a source of B or more is row ``source - B`` of
    the pool. A sample with fewer sources than S fills its unused slots with itself at gain 0; an
    unused slot is never read, so a broken sample cannot reach one that it was not mixed into.

    Attributes:
        source: Row of each source, int64 [B, S]; column 0 is the sample itself.
        gain: Linear gain of each source, float32 [B, S]; [1, 0, ...] where nothing is mixed.
        boxes: Where the partner stands in the sample's place, for plans of two sources; None adds
            whole sources.
        matched: Before the gains, partners are brought to the sample's own RMS.

    Raises:
        ValueError: If the arrays are not those of a plan.
    """

    source: np.ndarray
    gain: np.ndarray
    boxes: Boxes | None = None
    matched: bool = False

    def __post_init__(self) -> None:
        source, gain = np.asarray(self.source), np.asarray(self.gain)
        if source.ndim != 2 or source.shape[1] == 0 or source.shape != gain.shape:
            raise ValueError(
                f"a plan's source has shape {list(source.shape)} and its gain {list(gain.shape)}; "
                "both are [B, S] with the sample itself as first source"
            )
        if source.dtype.kind not in "iu" or (source[:, 0] != np.arange(len(source))).any():
            raise ValueError(
                f"column 0 of a plan's source ({source.dtype}) is {source[:4, 0].tolist()}, ...; "
                "it holds the samples themselves, the integers 0 to B - 1"
            )
        if source.min(initial=0) < 0:
            raise ValueError(f"a plan's source holds {source.min()}; rows count from 0")
        if not (gain.min(initial=0) >= 0 and gain.max(initial=0) < np.inf):
            raise ValueError("a plan's gains are finite and at least 0")
        if not gain.any(axis=1).all():
            row = gain.any(axis=1).argmin()
            raise ValueError(f"all gains of sample {row} are 0; a sample without a mix has [1, 0]")
        if self.boxes is not None and self.boxes.time.shape != source.shape:
            raise ValueError(
                f"{len(self.boxes.time)} boxes for a source of shape {list(source.shape)}; boxes "
                "are for plans of two sources [B, 2], one box a sample"
            )
        object.__setattr__(self, "source", np.ascontiguousarray(source, np.int64))
        object.__setattr__(self, "gain", np.ascontiguousarray(gain, np.float32))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return (
            np.array_equal(self.source, other.source)
            and np.array_equal(self.gain, other.gain)
            and self.boxes == other.boxes
            and self.matched == other.matched
        )

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
