"""Label sets: species codes and the columns they stand in."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from birdmix.suggest import did_you_mean, first_few


@dataclass(frozen=True)
class Labels:
    """An ordered set of label codes; column c of every target belongs to ``codes[c]``.

    Attributes:
        codes: Unique codes, always strings: eBird codes and numeric ids mix, and ``1e5`` is an id.
        names: A display name for each code.

    Raises:
        ValueError: If a code stands twice or the lengths differ.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...] = ()
    _columns: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(self.codes))
        object.__setattr__(self, "names", tuple(self.names) or self.codes)
        object.__setattr__(self, "_columns", {code: c for c, code in enumerate(self.codes)})
        if len(self._columns) != len(self.codes):
            twice = sorted(code for code, count in Counter(self.codes).items() if count > 1)
            raise ValueError(f"label codes stand twice: {first_few(twice, 10)}")
        if len(self.names) != len(self.codes):
            raise ValueError(f"{len(self.names)} label names for {len(self.codes)} label codes")

    @staticmethod
    def of(codes: Iterable[Iterable[str]]) -> "Labels":
        """Return the set of all codes of some rows, sorted."""
        return Labels(tuple(sorted({code for each in codes for code in each})))

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: str) -> bool:
        return code in self._columns

    def column(self, code: str) -> int:
        """Return the column of a code.

        Raises:
            ValueError: If the code is not in the set; the nearest code is offered.
        """
        if code not in self._columns:
            raise ValueError(
                f"label '{code}' is outside the label set{did_you_mean(code, self.codes)}"
            )
        return self._columns[code]

    def find(self, codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return which of some codes are in the set, a mask, and the columns of those that are."""
        known = np.array([code in self._columns for code in codes], bool)
        columns = [self._columns[code] for code in codes if code in self._columns]
        return known, np.array(columns, np.int64)

    def encode(self, codes: Iterable[str], values: Iterable[float]) -> np.ndarray:
        """Return one target, float32 [C]; where a code stands twice the larger value holds."""
        target = np.zeros(len(self), np.float32)
        for code, value in zip(codes, values, strict=True):
            column = self.column(code)
            target[column] = max(target[column], value)
        return target
