"""The columns of the recordings table, and how Python's values become them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

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


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where lists of these lengths begin, and where the last one ends, int64 [N + 1]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def lists(lengths: Iterable[int], values: pa.Array, mask: np.ndarray | None = None) -> pa.Array:
    """Return a column of lists from their lengths and all values; masked ones are null."""
    offsets = pa.array(offsets_of(np.fromiter(lengths, np.int64)), pa.int32())
    absent = None if mask is None else pa.array(mask)
    return pa.ListArray.from_arrays(offsets, values, mask=absent)


def label_column(codes: Sequence[tuple[str, ...]], labels: Labels) -> pa.Array:
    """Return a column of labels, each by its place in the label set.

    Raises:
        ValueError: If a code is not in it.
    """
    flat = list(chain.from_iterable(codes))
    known = {code: labels.column(code) for code in dict.fromkeys(flat)}
    columns = [known[code] for code in flat]
    return lists(map(len, codes), pa.array(columns, pa.int32()))


def value_column(values: Sequence[Sequence[float]] | None, label: pa.Array) -> pa.Array:
    """Return a column of one value for each label; None is 1 for all."""
    if values is None:
        ones = np.ones(len(label.values), np.float32)
        return pa.ListArray.from_arrays(label.offsets, pa.array(ones))
    return lists(map(len, values), pa.array(chain.from_iterable(values), pa.float32()))


def event_column(
    events: Sequence[Sequence[Event] | None] | None, num_rows: int, labels: Labels
) -> pa.Array:
    """Return a column of events; None is null."""
    rows = events if events is not None else [None] * num_rows
    flat = [event for each in rows for event in each or ()]
    columns = [-1 if event.code is None else labels.column(event.code) for event in flat]
    values = _structs(flat, {"label": pa.array(columns, pa.int32())})
    return lists([len(each or ()) for each in rows], values, _absent(rows))


def span_column(spans: Sequence[Sequence[Span] | None] | None, num_rows: int) -> pa.Array:
    """Return a column of spans; None is null."""
    rows = spans if spans is not None else [None] * num_rows
    flat = [span for each in rows for span in each or ()]
    return lists([len(each or ()) for each in rows], _structs(flat, {}), _absent(rows))


def _structs(spans: Sequence[Event | Span], more: dict[str, pa.Array]) -> pa.Array:
    fields = {
        "start": pa.array([span.start for span in spans], pa.float64()),
        "end": pa.array([span.end for span in spans], pa.float64()),
        **more,
    }
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _absent(rows: Sequence[object]) -> np.ndarray:
    return np.array([each is None for each in rows], bool)


def seconds_column(values: ArrayLike | None, num_rows: int) -> pa.Array:
    """Return a column of seconds; NaN is null, None is null for all."""
    if values is None:
        return pa.nulls(num_rows, pa.float64())
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


def bytes_of(column: pa.Array) -> Iterator[bytes]:
    """Yield what a column says, whatever buffers it lies in."""
    yield np.asarray(column.is_null()).tobytes()
    if pa.types.is_list(column.type):
        yield np.asarray(column.value_lengths().fill_null(0)).tobytes()
        yield from bytes_of(column.flatten())
    elif pa.types.is_struct(column.type):
        for field in column.flatten():
            yield from bytes_of(field)
    elif pa.types.is_string(column.type):
        column = column.fill_null("")
        yield np.asarray(pc.binary_length(column)).tobytes()
        yield "".join(column.to_pylist()).encode()
    else:
        numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        yield np.asarray(numbers.fill_null(0)).tobytes()
