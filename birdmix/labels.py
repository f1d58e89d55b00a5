"""Label sets: ordered species codes, and the target column of each."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from birdmix.messages import did_you_mean, first_few
from birdmix.text import nfc


@dataclass(frozen=True)
class Labels:
    """An ordered set of label codes; column c of every target belongs to ``codes[c]``.

    Codes are compared as NFC, so accents may be composed or decomposed characters.

    Attributes:
        codes: Unique codes, always strings: eBird codes and numeric ids mix, and ``1e5`` is an id.
        names: A display name for each code.

    Raises:
        ValueError: If codes are repeated or the lengths differ.
    """

    codes: tuple[str, ...]
    names: tuple[str, ...] = ()
    _columns: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(self.codes))
        object.__setattr__(self, "names", tuple(self.names) or self.codes)
        object.__setattr__(self, "_columns", {nfc(code): c for c, code in enumerate(self.codes)})
        if len(self._columns) != len(self.codes):
            counts = Counter(map(nfc, self.codes))
            repeated = sorted(code for code, count in counts.items() if count > 1)
            raise ValueError(f"{len(repeated)} label codes are repeated: {first_few(repeated, 5)}")
        if len(self.names) != len(self.codes):
            raise ValueError(f"{len(self.names)} label names for {len(self.codes)} label codes")

    @staticmethod
    def from_row_codes(codes: Iterable[Iterable[str]]) -> "Labels":
        """Return the sorted set of all codes in some rows, given the codes of each row."""
        return Labels(tuple(sorted({code for row in codes for code in row})))

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: str) -> bool:
        return nfc(code) in self._columns

    def column(self, code: str) -> int:
        """Return the column of a code.

        Raises:
            ValueError: If the code is not in the set; the message has the nearest code.
        """
        column = self._columns.get(nfc(code))
        if column is None:
            raise ValueError(
                f"label '{code}' is not in the label set{did_you_mean(code, self.codes)}"
            )
        return column

    def find_columns(self, codes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return a mask of the codes that are in the set, bool [N], and their columns, int64."""
        columns = np.array([self._columns.get(nfc(code), -1) for code in codes], np.int64)
        return columns >= 0, columns[columns >= 0]

    def encode_target(self, codes: Iterable[str], values: Iterable[float]) -> np.ndarray:
        """Return one target, float32 [C]; of a repeated code the largest value is used."""
        target = np.zeros(len(self), np.float32)
        for code, value in zip(codes, values, strict=True):
            column = self.column(code)
            target[column] = max(target[column], value)
        return target
