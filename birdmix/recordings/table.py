"""The recordings table: one row per recording, or part of one, whatever the source.

It is one Arrow table: a filter takes whole rows, so labels cannot shift against files; a million
rows are a few hundred megabytes; and worker processes share it as it is.

Shapes: N rows, C classes.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from birdmix.labels import Labels
from birdmix.recordings.arrow import (
    SCHEMA,
    Event,
    Span,
    bytes_of,
    event_column,
    label_column,
    lists,
    offsets_of,
    seconds_column,
    span_column,
    value_column,
)


@dataclass(frozen=True)
class Recordings:
    """Recordings with all that is known about them.

    Attributes:
        root: Folder that all paths are relative to.
        table: Columns of ``SCHEMA``.
        labels: Label set; the table's labels are its columns.
    """

    root: Path
    table: pa.Table
    labels: Labels

    @staticmethod
    def build(
        root: Path,
        labels: Labels,
        *,
        path: Sequence[str],
        codes: Sequence[tuple[str, ...]] | None = None,
        values: Sequence[Sequence[float]] | None = None,
        unknown: Sequence[tuple[str, ...]] | None = None,
        events: Sequence[Sequence[Event] | None] | None = None,
        annotated: Sequence[Sequence[Span] | None] | None = None,
        group: Sequence[str] | None = None,
        weight: ArrayLike | None = None,
        start: ArrayLike | None = None,
        end: ArrayLike | None = None,
        datetime: Sequence[Any] | None = None,
        split: Sequence[str] | None = None,
    ) -> "Recordings":
        """Make a table from columns; those that a source lacks get their usual values.

        Args:
            root: Folder of the recordings.
            labels: Label set; holds every code.
            path: Of each row.
            codes: Labels of each row; None takes those of its events.
            values: Target of each code; None is 1 for all.
            unknown: Labels of each row that may be there or not.
            events: What is heard where; None for a row that is labelled as a whole.
            annotated: Where somebody has looked for events; None for everywhere.
            group: None makes each recording its own group.
            weight: None is 1 for all.
            start: Seconds; NaN or None for a whole recording.
            end: Seconds.
            datetime: Of the first sample, None where it is not known.
            split: train, validation or test; None leaves that to folds.
        """
        num_rows = len(path)
        weights = np.ones(num_rows) if weight is None else np.asarray(weight)
        if codes is None:
            codes = [
                tuple(dict.fromkeys(e.code for e in each or () if e.code is not None))
                for each in events or ()
            ]
        label = label_column(codes, labels)
        columns: dict[str, Any] = {
            "path": pa.array(path, pa.string()),
            "label": label,
            "value": value_column(values, label),
            "unknown": label_column(unknown or [()] * num_rows, labels),
            "events": event_column(events, num_rows, labels),
            "annotated": span_column(annotated, num_rows),
            "group": pa.array(path if group is None else group, pa.string()),
            "weight": pa.array(weights.astype(np.float32)),
            "start": seconds_column(start, num_rows),
            "end": seconds_column(end, num_rows),
            "datetime": pa.array(datetime or [None] * num_rows, pa.timestamp("s")),
            "split": pa.nulls(num_rows, pa.string()) if split is None else pa.array(split),
        }
        return Recordings(Path(root), pa.table(columns, schema=SCHEMA), labels)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def paths(self) -> list[str]:
        """Paths of all rows."""
        return self.table["path"].to_pylist()

    @property
    def groups(self) -> list[str]:
        """Groups of all rows."""
        return self.table["group"].to_pylist()

    @property
    def by_events(self) -> np.ndarray:
        """Which rows say what is heard where, bool [N]; the others are labelled as a whole."""
        return self.table["events"].is_valid().to_numpy()

    @property
    def has_events(self) -> bool:
        """Whether some row says what is heard where."""
        return bool(self.by_events.any())

    def codes(self, row: int) -> tuple[str, ...]:
        """Return the label codes of a row."""
        return tuple(self.labels.codes[column] for column in self.table["label"][row].as_py())

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers, [N]; NaN where it is null."""
        return self.table[name].to_numpy()

    def ragged(self, name: str) -> tuple[np.ndarray, Any]:
        """Return a column of lists: where each row's begins and ends, int64 [N + 1]; all values."""
        column = self.table[name].combine_chunks()
        lengths = np.asarray(column.value_lengths().fill_null(0))
        values = column.flatten()
        if pa.types.is_struct(values.type):
            fields = zip(values.type.names, values.flatten(), strict=True)
            return offsets_of(lengths), {name: np.asarray(field) for name, field in fields}
        return offsets_of(lengths), np.asarray(values)

    def take(self, rows: np.ndarray) -> "Recordings":
        """Return some rows: positions, or a mask of booleans."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.take(pa.array(rows, pa.int64())).combine_chunks())

    def as_parts(
        self, start: np.ndarray, end: np.ndarray, target: np.ndarray, known: np.ndarray
    ) -> "Recordings":
        """Return the same rows as parts of their recordings, each labelled as a whole.

        Args:
            start: Seconds, [N].
            end: Seconds, [N].
            target: In [0, 1], [N, C].
            known: Whether each label is known, bool [N, C].
        """
        rows, label = np.nonzero(target)
        unknown_rows, unknown = np.nonzero(~known)
        lengths = np.bincount(rows, minlength=len(self))
        columns = {
            "label": lists(lengths, pa.array(label, pa.int32())),
            "value": lists(lengths, pa.array(target[rows, label], pa.float32())),
            "unknown": lists(
                np.bincount(unknown_rows, minlength=len(self)), pa.array(unknown, pa.int32())
            ),
            "events": pa.nulls(len(self), SCHEMA.field("events").type),
            "annotated": pa.nulls(len(self), SCHEMA.field("annotated").type),
            "start": seconds_column(start, len(self)),
            "end": seconds_column(end, len(self)),
        }
        kept = {name: self.table[name] for name in SCHEMA.names}
        return replace(self, table=pa.table({**kept, **columns}, schema=SCHEMA))

    def rebased(self, root: Path) -> "Recordings":
        """Return the same recordings, with their paths relative to another folder."""
        if os.path.abspath(root) == os.path.abspath(self.root):
            return replace(self, root=root)
        between = Path(os.path.relpath(self.root, root)).as_posix()
        paths = pc.binary_join_element_wise(between, self.table["path"], "/")
        return Recordings(Path(root), self.table.set_column(0, SCHEMA.field(0), paths), self.labels)

    def digest(self) -> str:
        """Return a fingerprint of the label set and of the rows in their order.

        The root is not in it: recordings may move as a whole.
        """
        digest = hashlib.sha256(repr(self.labels.codes).encode())
        for name in SCHEMA.names:
            for part in bytes_of(self.table[name].combine_chunks()):
                digest.update(part)
        return digest.hexdigest()

    def targets(self) -> np.ndarray:
        """Return the targets of all rows, float32 [N, C]."""
        target = np.zeros((len(self), len(self.labels)), np.float32)
        offsets, columns = self.ragged("label")
        rows = np.repeat(np.arange(len(self)), np.diff(offsets))
        np.maximum.at(target, (rows, columns), self.ragged("value")[1])
        return target

    def label_counts(self) -> np.ndarray:
        """Return how many rows hold each label, by its value in them: the sum, float64 [C]."""
        columns, values = self.ragged("label")[1], self.ragged("value")[1]
        return np.bincount(columns, weights=values, minlength=len(self.labels))


def concatenated(parts: Iterable[Recordings]) -> Recordings:
    """Join tables of one root and one label set, one below the other."""
    first, *others = parts
    assert all(each.labels == first.labels and each.root == first.root for each in others)
    tables = pa.concat_tables([first.table, *(each.table for each in others)])
    return replace(first, table=tables.combine_chunks())


@dataclass(frozen=True)
class DataSource:
    """What a reader finds.

    Attributes:
        recordings: To train on, and to hold out from.
        soundscapes: Labelled windows of soundscapes to validate on, if the source has them.
    """

    recordings: Recordings
    soundscapes: Recordings | None = None
