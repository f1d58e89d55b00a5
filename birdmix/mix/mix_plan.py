"""Mix plans: the sources, gains and boxes of one mixed batch.

Shapes: B batch, P mix pool, S sources, M mel bins, T last axis (samples or frames).
"""

from dataclasses import dataclass, fields, replace

import numpy as np

# Tolerance in box bounds: rounding may carry the end of a box this far beyond 1.
_EPS = 1e-9


@dataclass(frozen=True, eq=False)
class Boxes:
    """One box per example, as fractions of the axes: valid on waveforms, mels and feature maps.

    Boxes are equal if their bounds are. They are not hashable, as arrays can be changed.

    Attributes:
        time: Begin and end along the last axis, in [0, 1], float64 [B, 2].
        mel: The same along the last axis but one; (0, 1) is the full axis, valid on waveforms too.

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
                    "of each example's box, [B, 2]"
                )
            ordered = (bounds[:, 0] <= bounds[:, 1]).all()
            if not (
                ordered and bounds.min(initial=0) >= -_EPS and bounds.max(initial=0) <= 1 + _EPS
            ):
                raise ValueError(
                    f"the boxes' {name} ranges from {bounds.min():g} to {bounds.max():g}; a box "
                    "lies in [0, 1] and begins before it ends"
                )
            object.__setattr__(self, name, bounds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Boxes):
            return NotImplemented
        return np.array_equal(self.time, other.time) and np.array_equal(self.mel, other.mel)

    def bounds_in_cells(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the bounds of the boxes on a tensor's grid.

        Args:
            shape: Shape of the tensor, [B, ..., T].

        Returns:
            Begin and end of each box in cells along time and along mel, int64 [B, 2] each.

        Raises:
            ValueError: If a box covers some frequencies only and the tensor has no such axis.
        """
        if len(shape) < 3:
            if not (self.mel == (0, 1)).all():
                raise ValueError(
                    f"a box in frequency needs spectrograms [B, M, F] or [B, C, M, F], got shape "
                    f"{list(shape)}; cut waveforms in time: axis='time'"
                )
            return _to_cells(self.time, shape[-1]), np.tile((0, 1), (len(self.mel), 1))
        return _to_cells(self.time, shape[-1]), _to_cells(self.mel, shape[-2])

    def area_fractions(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the fraction of a tensor's cells that each box covers, on the tensor's grid.

        Args:
            shape: Shape of the tensor, [B, ..., T].

        Returns:
            Fractions in [0, 1], float64 [B].
        """
        time, mel = self.bounds_in_cells(shape)
        num_mels = shape[-2] if len(shape) >= 3 else 1
        return np.diff(time)[:, 0] * np.diff(mel)[:, 0] / max(shape[-1] * num_mels, 1)


def _to_cells(fractions: np.ndarray, length: int) -> np.ndarray:
    """Round fractions of an axis to its cells, int64."""
    return np.rint(fractions * length).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything random about one mixed batch: small, and enough to repeat the mix.

    Plans are equal if all their fields are. They are not hashable, as arrays can be changed.

    Indices count the batch followed by the mix pool: a source of B or more is example
    ``source - B`` of the pool. An example with fewer sources than S has itself at gain 0 in its
    unused slots. Unused slots are never read, so an example with NaN changes only the examples
    that it is mixed into.

    Attributes:
        source: Index of each source, int64 [B, S]; column 0 is the example itself.
        gain: Linear gain of each source, float32 [B, S]; [1, 0, ...] for an example without a mix.
        boxes: For plans of two sources: the boxes in which the partner replaces the example; None
            adds whole sources.
        match: Scaling of partners to the example's own level before the gains: none, rms or
            loudness; see ``sound_levels.MATCHES``.
        unit_power: Whether gains are then divided by the root of the sum of their squares.
        shift: By which fraction of its length each source is shifted in time, later and around the
            end, in [0, 1), float32 [B, S]; 0 for the example itself. None shifts nothing.
        aligned: Whether partners are shifted so that their loud parts meet those of the example;
            the shifts are computed from the data.
        unfit: Partners that do not meet the condition of the operator, drawn for want of others,
            bool [B, S]; None is no such partner.

    Raises:
        ValueError: If shapes, types or values are not those of a plan.
    """

    source: np.ndarray
    gain: np.ndarray
    boxes: Boxes | None = None
    match: str = "none"
    unit_power: bool = False
    shift: np.ndarray | None = None
    aligned: bool = False
    unfit: np.ndarray | None = None

    def __post_init__(self) -> None:
        source, gain = np.asarray(self.source), np.asarray(self.gain)
        if source.ndim != 2 or source.shape[1] == 0 or source.shape != gain.shape:
            raise ValueError(
                f"a plan's source has shape {list(source.shape)} and its gain {list(gain.shape)}; "
                "both are [B, S] with the example itself as first source"
            )
        if source.dtype.kind not in "iu" or (source[:, 0] != np.arange(len(source))).any():
            raise ValueError(
                f"column 0 of a plan's source ({source.dtype}) is {source[:4, 0].tolist()}, ...; "
                "it must hold the examples themselves, the integers 0 to B - 1"
            )
        if source.min(initial=0) < 0:
            raise ValueError(f"a plan's source holds {source.min()}; indices start at 0")
        if not (gain.min(initial=0) >= 0 and gain.max(initial=0) < np.inf):
            raise ValueError("a plan's gains must be finite and at least 0")
        if not gain.any(axis=1).all():
            index = gain.any(axis=1).argmin()
            raise ValueError(
                f"all gains of example {index} are 0; an example without a mix has [1, 0]"
            )
        if self.unfit is not None and self.unfit.shape != source.shape:
            raise ValueError(
                f"a plan's unfit has shape {list(self.unfit.shape)} for sources "
                f"{list(source.shape)}; they must agree"
            )
        if self.boxes is not None and self.boxes.time.shape != source.shape:
            raise ValueError(
                f"{len(self.boxes.time)} boxes for a source of shape {list(source.shape)}; boxes "
                "are for plans of two sources [B, 2], one box per example"
            )
        self._check_shifts(source.shape)
        object.__setattr__(self, "source", np.ascontiguousarray(source, np.int64))
        object.__setattr__(self, "gain", np.ascontiguousarray(gain, np.float32))

    def _check_shifts(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if time shifts do not fit sources of this shape, [B, S]."""
        if self.boxes is not None and (self.shift is not None or self.aligned):
            raise ValueError("a plan with boxes has no time shifts")
        if self.shift is None:
            return
        shift = np.ascontiguousarray(self.shift, np.float32)
        if self.aligned or shift.shape != shape or shift[:, 0].any():
            raise ValueError(
                f"a plan's shift has shape {list(shift.shape)} for sources {list(shape)}; it has "
                "one shift for each source, 0 for the example itself, and needs aligned=False"
            )
        if not (shift.min(initial=0) >= 0 and shift.max(initial=0) < 1):
            raise ValueError("a plan's shifts are fractions of the length in [0, 1)")
        object.__setattr__(self, "shift", shift)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        names = [each.name for each in fields(self)]
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    @staticmethod
    def identity(batch_size: int) -> "Plan":
        """Return the plan that mixes nothing, for a batch of B = ``batch_size`` examples."""
        return Plan(np.arange(batch_size)[:, None], np.ones((batch_size, 1), np.float32))

    def restrict_to(self, mixed: np.ndarray) -> "Plan":
        """Return the plan restricted to some examples; the others are not mixed.

        Args:
            mixed: Examples to mix, bool [B].
        """
        if mixed.all():
            return self
        own_gain = np.eye(1, self.source.shape[1], dtype=np.float32)
        source = np.where(mixed[:, None], self.source, np.arange(len(self.source))[:, None])
        gain = np.where(mixed[:, None], self.gain, own_gain)
        return replace(self, source=source, gain=gain)

    @property
    def is_identity(self) -> bool:
        """Whether the plan mixes nothing."""
        return bool((self.gain[:, 0] == 1).all() and (self.gain[:, 1:] == 0).all())

    @property
    def used_mask(self) -> np.ndarray:
        """Which slots hold a source, bool [B, S]."""
        return self.gain != 0

    @property
    def source_counts(self) -> np.ndarray:
        """Number of sources of each example, int64 [B]."""
        return self.used_mask.sum(axis=1)

    @property
    def num_self_pairs(self) -> int:
        """How often an example is its own partner; 0 for the plans that operators draw."""
        is_self = self.source[:, 1:] == np.arange(len(self.source))[:, None]
        return int((is_self & self.used_mask[:, 1:]).sum())

    @property
    def num_unfit(self) -> int:
        """Number of partners that do not meet the condition of the operator."""
        return 0 if self.unfit is None else int((self.unfit & self.used_mask).sum())

    @property
    def gains_depend_on_data(self) -> bool:
        """Whether the gains that are applied are not the plan's own."""
        return self.match != "none" or self.unit_power

    def source_fractions(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the part of the mix that each source is.

        A part is the source's gain, times its area where there are boxes, divided by the sum over
        the example's sources.

        Args:
            shape: Shape of the tensor that is mixed; boxes are rounded to its grid.

        Returns:
            Parts in [0, 1], float32 [B, S]; those of an example add up to 1.
        """
        amount = self.gain
        if self.boxes is not None:
            area = np.where(self.used_mask[:, 1], self.boxes.area_fractions(shape), 0)
            amount = self.gain * np.stack([1 - area, area], axis=1)
        return (amount / amount.sum(axis=1, keepdims=True)).astype(np.float32)
