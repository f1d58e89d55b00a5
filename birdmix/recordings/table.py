"""The recordings table: one row per recording, or part of one, whatever the source.

It is one Arrow table: a filter takes whole rows, so labels cannot shift against files; a million
rows are a few hundred megabytes; and worker processes share it as it is.

Shapes: N rows, C classes.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from birdmix.labels import Labels

_SPAN = [("start", pa.float64()), ("end", pa.float64())]

#: Labels are columns of the label set. Null are ``start`` and ``end`` of a whole recording,
#: ``events`` of one that is labelled as a whole, ``annotated`` of one annotated throughout.
SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the root, with forward slashes
        ("label", pa.list_(pa.int32())),
        ("value", pa.list_(pa.float32())),  # target of each label, in [0, 1]
        ("unknown", pa.list_(pa.int32())),  # labels that may be there: the loss skips them
        ("events", pa.list_(pa.struct([*_SPAN, ("label", pa.int32())]))),  # -1: nobody named it
        ("annotated", pa.list_(pa.struct(_SPAN))),  # spans outside of which nobody looked
        ("group", pa.string()),  # recordist, site or date: never on both sides of a split
        ("weight", pa.float32()),  # of the row in the loss
        ("start", pa.float64()),  # seconds
        ("end", pa.float64()),
        ("datetime", pa.timestamp("s")),  # local time of its first sample
        ("split", pa.string()),  # train, validation or test; null: nobody has said
    ]
)


class Event(NamedTuple):
    """A stretch of a recording in which something can be heard.

    Attributes:
        start: Seconds.
        end: Seconds; equal to ``start`` for a point in time.
        code: Label code; None where nobody has named it.
    """

    start: float
    end: float
    code: str | None


class Span(NamedTuple):
    """A stretch of a recording, in seconds."""

    start: float
    end: float


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
        label = _columns(codes, labels)
        columns: dict[str, Any] = {
            "path": pa.array(path, pa.string()),
            "label": label,
            "value": _values(values, label),
            "unknown": _columns(unknown or [()] * num_rows, labels),
            "events": _events(events, num_rows, labels),
            "annotated": _spans(annotated, num_rows),
            "group": pa.array(path if group is None else group, pa.string()),
            "weight": pa.array(weights.astype(np.float32)),
            "start": _seconds(start, num_rows),
            "end": _seconds(end, num_rows),
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
    def has_events(self) -> bool:
        """Whether some row says what is heard where."""
        return self.table["events"].null_count < len(self)

    def codes(self, row: int) -> tuple[str, ...]:
        """Return the label codes of a row."""
        return tuple(self.labels.codes[column] for column in self.table["label"][row].as_py())

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers, [N]; NaN where it is null."""
        return self.table[name].to_numpy()

    def ragged(self, name: str) -> tuple[np.ndarray, Any]:
        """Return a column of lists: where each row's begins and ends, int64 [N + 1]; all values."""
        lists = self.table[name].combine_chunks()
        lengths = np.asarray(lists.value_lengths().fill_null(0))
        values = lists.flatten()
        if pa.types.is_struct(values.type):
            fields = zip(values.type.names, values.flatten(), strict=True)
            return _offsets(lengths), {name: np.asarray(field) for name, field in fields}
        return _offsets(lengths), np.asarray(values)

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
            "label": _lists(lengths, pa.array(label, pa.int32())),
            "value": _lists(lengths, pa.array(target[rows, label], pa.float32())),
            "unknown": _lists(
                np.bincount(unknown_rows, minlength=len(self)), pa.array(unknown, pa.int32())
            ),
            "events": pa.nulls(len(self), SCHEMA.field("events").type),
            "annotated": pa.nulls(len(self), SCHEMA.field("annotated").type),
            "start": _seconds(start, len(self)),
            "end": _seconds(end, len(self)),
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
            for part in _bytes(self.table[name].combine_chunks()):
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
        """Return the number of rows that hold each label, int64 [C]."""
        return np.bincount(self.ragged("label")[1], minlength=len(self.labels))


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


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _lists(lengths: Iterable[int], values: pa.Array, mask: np.ndarray | None = None) -> pa.Array:
    offsets = pa.array(_offsets(np.fromiter(lengths, np.int64)), pa.int32())
    absent = None if mask is None else pa.array(mask)
    return pa.ListArray.from_arrays(offsets, values, mask=absent)


def _columns(codes: Sequence[tuple[str, ...]], labels: Labels) -> pa.Array:
    """Return the label columns of each row's codes."""
    known = {code: column for column, code in enumerate(labels.codes)}
    flat = list(chain.from_iterable(codes))
    columns = [known.get(code, -1) for code in flat]
    if -1 in columns:
        labels.column(flat[columns.index(-1)])  # raises, with the nearest code
    return _lists(map(len, codes), pa.array(columns, pa.int32()))


def _values(values: Sequence[Sequence[float]] | None, label: pa.Array) -> pa.Array:
    if values is None:
        ones = np.ones(len(label.values), np.float32)
        return pa.ListArray.from_arrays(label.offsets, pa.array(ones))
    return _lists(map(len, values), pa.array(chain.from_iterable(values), pa.float32()))


def _events(
    events: Sequence[Sequence[Event] | None] | None, num_rows: int, labels: Labels
) -> pa.Array:
    rows = events if events is not None else [None] * num_rows
    flat = [event for each in rows for event in each or ()]
    columns = [-1 if event.code is None else labels.column(event.code) for event in flat]
    values = _structs(flat, {"label": pa.array(columns, pa.int32())})
    return _lists([len(each or ()) for each in rows], values, _absent(rows))


def _spans(spans: Sequence[Sequence[Span] | None] | None, num_rows: int) -> pa.Array:
    rows = spans if spans is not None else [None] * num_rows
    flat = [span for each in rows for span in each or ()]
    return _lists([len(each or ()) for each in rows], _structs(flat, {}), _absent(rows))


def _structs(spans: Sequence[Event | Span], more: dict[str, pa.Array]) -> pa.Array:
    fields = {
        "start": pa.array([span.start for span in spans], pa.float64()),
        "end": pa.array([span.end for span in spans], pa.float64()),
        **more,
    }
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _absent(rows: Sequence[object]) -> np.ndarray:
    return np.array([each is None for each in rows], bool)


def _seconds(values: ArrayLike | None, num_rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(num_rows, pa.float64())
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


def _bytes(column: pa.Array) -> Iterator[bytes]:
    """Yield what a column says, whatever buffers it lies in."""
    yield np.asarray(column.is_null()).tobytes()
    if pa.types.is_list(column.type):
        yield np.asarray(column.value_lengths().fill_null(0)).tobytes()
        yield from _bytes(column.flatten())
    elif pa.types.is_struct(column.type):
        for field in column.flatten():
            yield from _bytes(field)
    elif pa.types.is_string(column.type):
        column = column.fill_null("")
        yield np.asarray(pc.binary_length(column)).tobytes()
        yield "".join(column.to_pylist()).encode()
    else:
        numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        yield np.asarray(numbers.fill_null(0)).tobytes()
