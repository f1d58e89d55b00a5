"""Schema of the recordings table, and conversion of Python values to its Arrow columns.

Shapes: N rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from birdmix.labels import Labels

_SPAN = [("start", pa.float64()), ("end", pa.float64())]

#: Labels are indices in the label set. Null values: ``start`` and ``end`` for a whole recording,
#: ``events`` for a row with labels but no event times, ``annotated`` if all of it is annotated.
SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the root, with forward slashes
        ("label", pa.list_(pa.int32())),
        ("value", pa.list_(pa.float32())),  # target of each label, in [0, 1]
        ("unknown", pa.list_(pa.int32())),  # labels not annotated: the loss skips them
        ("events", pa.list_(pa.struct([*_SPAN, ("label", pa.int32())]))),  # -1: without a label
        ("annotated", pa.list_(pa.struct(_SPAN))),  # annotated spans; elsewhere labels are unknown
        ("group", pa.string()),  # recordist, site or date: never both trained and validated on
        ("weight", pa.float32()),  # weight of the row in the loss
        ("start", pa.float64()),  # seconds
        ("end", pa.float64()),
        ("datetime", pa.timestamp("s")),  # local time of the recording's first sample
        ("split", pa.string()),  # train, validation or test; null: not given
    ]
)


class Event(NamedTuple):
    """An annotated sound event in a recording.

    Attributes:
        start: Seconds.
        end: Seconds; equal to ``start`` for a point in time.
        code: Label code; None if the annotation has no label.
    """

    start: float
    end: float
    code: str | None


class Span(NamedTuple):
    """A time span of a recording, in seconds."""

    start: float
    end: float


def offsets_from_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the offsets of lists with these lengths, from 0 to their sum, int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def build_list_column(
    lengths: Iterable[int], values: pa.Array, mask: np.ndarray | None = None
) -> pa.Array:
    """Return a column of lists.

    Args:
        lengths: Length of each row's list.
        values: The values of all lists, one list after the other.
        mask: Which rows are null, bool [N]; None for none.
    """
    offsets = pa.array(offsets_from_lengths(np.fromiter(lengths, np.int64)), pa.int32())
    null_mask = None if mask is None else pa.array(mask)
    return pa.ListArray.from_arrays(offsets, values, mask=null_mask)


def build_label_column(codes: Sequence[tuple[str, ...]], labels: Labels) -> pa.Array:
    """Return a column of label lists, each label as its index in the label set.

    Args:
        codes: Label codes of each row.
        labels: The label set.

    Raises:
        ValueError: If a code is not in the label set.
    """
    flat = list(chain.from_iterable(codes))
    column_by_code = {code: labels.column(code) for code in dict.fromkeys(flat)}
    columns = [column_by_code[code] for code in flat]
    return build_list_column(map(len, codes), pa.array(columns, pa.int32()))


def build_target_value_column(
    values: Sequence[Sequence[float]] | None, label: pa.Array
) -> pa.Array:
    """Return a column of target values, one for each label.

    Args:
        values: Values of each row's labels, in [0, 1]; None gives 1 for all.
        label: Column of the labels.
    """
    if values is None:
        ones = np.ones(len(label.values), np.float32)
        return pa.ListArray.from_arrays(label.offsets, pa.array(ones))
    return build_list_column(map(len, values), pa.array(chain.from_iterable(values), pa.float32()))


def build_event_column(
    events: Sequence[Sequence[Event] | None] | None, num_rows: int, labels: Labels
) -> pa.Array:
    """Return a column of event lists; an event without a label has the index -1.

    Args:
        events: Events of each row, None for a null row; None makes all rows null.
        num_rows: Number of rows N.
        labels: The label set.
    """
    rows = events if events is not None else [None] * num_rows
    flat = [event for each in rows for event in each or ()]
    columns = [-1 if event.code is None else labels.column(event.code) for event in flat]
    values = _struct_array(flat, {"label": pa.array(columns, pa.int32())})
    return build_list_column([len(each or ()) for each in rows], values, _null_mask(rows))


def build_span_column(spans: Sequence[Sequence[Span] | None] | None, num_rows: int) -> pa.Array:
    """Return a column of span lists.

    Args:
        spans: Spans of each row, None for a null row; None makes all rows null.
        num_rows: Number of rows N.
    """
    rows = spans if spans is not None else [None] * num_rows
    flat = [span for each in rows for span in each or ()]
    return build_list_column(
        [len(each or ()) for each in rows], _struct_array(flat, {}), _null_mask(rows)
    )


def _struct_array(spans: Sequence[Event | Span], extra_fields: dict[str, pa.Array]) -> pa.Array:
    fields = {
        "start": pa.array([span.start for span in spans], pa.float64()),
        "end": pa.array([span.end for span in spans], pa.float64()),
        **extra_fields,
    }
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _null_mask(rows: Sequence[object]) -> np.ndarray:
    return np.array([row is None for row in rows], bool)


def build_seconds_column(values: ArrayLike | None, num_rows: int) -> pa.Array:
    """Return a column of times in seconds.

    Args:
        values: Seconds of each row, NaN for a null row; None makes all rows null.
        num_rows: Number of rows N.
    """
    if values is None:
        return pa.nulls(num_rows, pa.float64())
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


def column_bytes_for_digest(column: pa.Array) -> Iterator[bytes]:
    """Yield the content of a column as bytes, independent of how its buffers are laid out."""
    yield np.asarray(column.is_null()).tobytes()
    if pa.types.is_list(column.type):
        yield np.asarray(column.value_lengths().fill_null(0)).tobytes()
        yield from column_bytes_for_digest(column.flatten())
    elif pa.types.is_struct(column.type):
        for field in column.flatten():
            yield from column_bytes_for_digest(field)
    elif pa.types.is_string(column.type):
        column = column.fill_null("")
        yield np.asarray(pc.binary_length(column)).tobytes()
        yield "".join(column.to_pylist()).encode()
    else:
        numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        yield np.asarray(numbers.fill_null(0)).tobytes()
