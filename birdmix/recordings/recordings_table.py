"""The recordings table: one row per recording, or per span of one, the same for all sources.

It is one Arrow table: filters select whole rows, so labels cannot shift against files; a million
rows take a few hundred megabytes; and worker processes share it without copies.

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
from birdmix.recordings.table_schema import (
    SCHEMA,
    Event,
    Span,
    build_event_column,
    build_label_column,
    build_list_column,
    build_seconds_column,
    build_span_column,
    build_target_value_column,
    column_bytes_for_digest,
    offsets_from_lengths,
)


@dataclass(frozen=True)
class Recordings:
    """Recordings with their labels, events and metadata.

    Attributes:
        root: Folder that all paths are relative to.
        table: Table with the columns of ``SCHEMA``, N rows.
        labels: Label set of C classes; the table stores labels as indices in it.
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
        """Build a table from columns; columns that a source does not have get default values.

        Args:
            root: Folder of the recordings.
            labels: Label set; it must contain every code.
            path: Path of each row's recording, relative to the root.
            codes: Labels of each row; None uses the labels of its events.
            values: Target of each code, in [0, 1]; None is 1 for all.
            unknown: Labels of each row that were not annotated.
            events: Events of each row; None for a row that has labels but no event times.
            annotated: Spans of each row that were annotated; None if all of it was.
            group: Group of each row; None makes each recording its own group.
            weight: Weight of each row in the loss; None is 1 for all.
            start: Start of each row's span in seconds; NaN or None for a whole recording.
            end: End of each row's span in seconds; likewise.
            datetime: Local time of the recording's first sample; None if unknown.
            split: train, validation or test for each row; None if folds decide.

        Raises:
            ValueError: If a code is not in the label set.
        """
        num_rows = len(path)
        weights = np.ones(num_rows) if weight is None else np.asarray(weight)
        if codes is None:
            codes = [
                tuple(dict.fromkeys(e.code for e in row_events or () if e.code is not None))
                for row_events in events or ()
            ]
        label = build_label_column(codes, labels)
        columns: dict[str, Any] = {
            "path": pa.array(path, pa.string()),
            "label": label,
            "value": build_target_value_column(values, label),
            "unknown": build_label_column(unknown or [()] * num_rows, labels),
            "events": build_event_column(events, num_rows, labels),
            "annotated": build_span_column(annotated, num_rows),
            "group": pa.array(path if group is None else group, pa.string()),
            "weight": pa.array(weights.astype(np.float32)),
            "start": build_seconds_column(start, num_rows),
            "end": build_seconds_column(end, num_rows),
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
    def rows_with_events_mask(self) -> np.ndarray:
        """Which rows have events, bool [N]; the labels of the others hold for all of the row."""
        return self.table["events"].is_valid().to_numpy()

    @property
    def has_any_events(self) -> bool:
        """Whether any row has events."""
        return bool(self.rows_with_events_mask.any())

    def label_codes_of_row(self, row: int) -> tuple[str, ...]:
        """Return the label codes of a row."""
        return tuple(self.labels.codes[column] for column in self.table["label"][row].as_py())

    def numeric_column(self, name: str) -> np.ndarray:
        """Return a numeric column, [N]; NaN where it is null."""
        return self.table[name].to_numpy()

    def ragged_column(self, name: str) -> tuple[np.ndarray, Any]:
        """Return a column of lists as a ragged array.

        Returns:
            Offsets of each row's values, int64 [N + 1]; and the values of all rows, an array, or a
            dictionary of arrays by field for a column of structs.
        """
        column = self.table[name].combine_chunks()
        lengths = np.asarray(column.value_lengths().fill_null(0))
        values = column.flatten()
        if pa.types.is_struct(values.type):
            fields = zip(values.type.names, values.flatten(), strict=True)
            return offsets_from_lengths(lengths), {
                name: np.asarray(field) for name, field in fields
            }
        return offsets_from_lengths(lengths), np.asarray(values)

    def take(self, rows: np.ndarray) -> "Recordings":
        """Return the table with the given rows, by positions or by a boolean mask [N]."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.take(pa.array(rows, pa.int64())).combine_chunks())

    def with_spans_and_labels(
        self, start: np.ndarray, end: np.ndarray, target: np.ndarray, known: np.ndarray
    ) -> "Recordings":
        """Return the rows as spans of their recordings with labels that hold for the whole span.

        Args:
            start: Start of each span in seconds, [N].
            end: End of each span in seconds, [N].
            target: Targets in [0, 1], [N, C].
            known: Whether each label was annotated, bool [N, C].
        """
        rows, label = np.nonzero(target)
        unknown_rows, unknown = np.nonzero(~known)
        lengths = np.bincount(rows, minlength=len(self))
        columns = {
            "label": build_list_column(lengths, pa.array(label, pa.int32())),
            "value": build_list_column(lengths, pa.array(target[rows, label], pa.float32())),
            "unknown": build_list_column(
                np.bincount(unknown_rows, minlength=len(self)), pa.array(unknown, pa.int32())
            ),
            "events": pa.nulls(len(self), SCHEMA.field("events").type),
            "annotated": pa.nulls(len(self), SCHEMA.field("annotated").type),
            "start": build_seconds_column(start, len(self)),
            "end": build_seconds_column(end, len(self)),
        }
        kept = {name: self.table[name] for name in SCHEMA.names}
        return replace(self, table=pa.table({**kept, **columns}, schema=SCHEMA))

    def with_paths_relative_to(self, root: Path) -> "Recordings":
        """Return the same recordings, with paths relative to another folder.

        Args:
            root: The other folder.
        """
        if os.path.abspath(root) == os.path.abspath(self.root):
            return replace(self, root=root)
        prefix = Path(os.path.relpath(self.root, root)).as_posix()
        paths = pc.binary_join_element_wise(prefix, self.table["path"], "/")
        return Recordings(Path(root), self.table.set_column(0, SCHEMA.field(0), paths), self.labels)

    def with_groups(self, groups: Sequence[str]) -> "Recordings":
        """Return the same rows in other groups.

        Args:
            groups: Group of each row.
        """
        column = SCHEMA.names.index("group")
        groups_column = pa.array(groups, pa.string())
        return replace(
            self, table=self.table.set_column(column, SCHEMA.field(column), groups_column)
        )

    def digest(self) -> str:
        """Return a fingerprint of the label set and of the rows in their order, in hexadecimal.

        The root is not part of it, so the folder of the recordings may move.
        """
        digest = hashlib.sha256(repr(self.labels.codes).encode())
        for name in SCHEMA.names:
            for part in column_bytes_for_digest(self.table[name].combine_chunks()):
                digest.update(part)
        return digest.hexdigest()

    def targets(self) -> np.ndarray:
        """Return the targets of all rows, float32 [N, C]."""
        target = np.zeros((len(self), len(self.labels)), np.float32)
        offsets, columns = self.ragged_column("label")
        rows = np.repeat(np.arange(len(self)), np.diff(offsets))
        np.maximum.at(target, (rows, columns), self.ragged_column("value")[1])
        return target

    def label_target_sums(self) -> np.ndarray:
        """Return the sum of each label's target values over the rows, float64 [C]."""
        columns, values = self.ragged_column("label")[1], self.ragged_column("value")[1]
        return np.bincount(columns, weights=values, minlength=len(self.labels))


def concatenate(parts: Iterable[Recordings]) -> Recordings:
    """Concatenate the rows of tables.

    Args:
        parts: At least one table; all have the same root and label set.
    """
    first, *others = parts
    assert all(each.labels == first.labels and each.root == first.root for each in others)
    tables = pa.concat_tables([first.table, *(each.table for each in others)])
    return replace(first, table=tables.combine_chunks())


@dataclass(frozen=True)
class SourceRecordings:
    """The recordings of a data source.

    Attributes:
        recordings: Recordings to train on and to hold out from.
        soundscapes: Labelled windows of soundscapes to validate on; None if the source has none.
    """

    recordings: Recordings
    soundscapes: Recordings | None = None
