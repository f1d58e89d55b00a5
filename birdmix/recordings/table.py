"""The recordings table: one row per recording (or annotated part of one), whatever the source.

Shapes: N rows, C classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.labels import Labels

#: Columns of the table and the defaults of those a source may lack.
COLUMNS = {
    "path": None,  # relative to the root, with forward slashes
    "codes": None,  # tuple of label codes
    "values": None,  # tuple of target values in [0, 1], one for each code
    "group": "",  # recordist, site or date: never on both sides of a split
    "weight": 1.0,
    "start": np.nan,  # seconds; NaN: the row is the whole recording
    "end": np.nan,
}


@dataclass(frozen=True)
class Recordings:
    """Recordings with their labels in one table, so that no filter can shift one against another.

    Attributes:
        root: Folder that all paths are relative to.
        table: The columns of ``COLUMNS``, index 0 .. N - 1.
        labels: Label set; every code of the table is in it.
    """

    root: Path
    table: pd.DataFrame
    labels: Labels

    @staticmethod
    def build(root: Path, columns: dict[str, Sequence], labels: Labels) -> "Recordings":
        """Make a table from columns, filling in those that the source lacks."""
        table = pd.DataFrame({"path": list(columns["path"])})
        for name, default in COLUMNS.items():
            table[name] = columns.get(name, default)
        return Recordings(Path(root), table, labels)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> "Recordings":
        """Return some rows: positions, or a mask of booleans."""
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True))

    def digest(self) -> str:
        """Return a fingerprint of the rows: their order, paths, labels, spans, groups and weights.

        The root is not in it: recordings may move as a whole.
        """
        return hashlib.sha256(self.table.to_csv(index=False).encode()).hexdigest()

    def targets(self) -> np.ndarray:
        """Return the targets of all rows, float32 [N, C]."""
        target = np.zeros((len(self), len(self.labels)), np.float32)
        for row, (codes, values) in enumerate(
            zip(self.table["codes"], self.table["values"], strict=True)
        ):
            target[row] = self.labels.encode(codes, values)
        return target


@dataclass(frozen=True)
class DataSource:
    """What a reader finds.

    Attributes:
        recordings: To train on, and to hold out from.
        soundscapes: Labelled windows of soundscapes to validate on, if the source has them.
    """

    recordings: Recordings
    soundscapes: Recordings | None = None
