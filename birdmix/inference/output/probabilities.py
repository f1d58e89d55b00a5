"""``probabilities.csv`` and ``.parquet``: a row per window, a column of probabilities per species.

Shapes: W windows, C classes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from birdmix.inference.output.probability_text import format_probabilities
from birdmix.inference.output.recording_result import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    Write,
    format_datetime_at_offset,
    format_decimal,
    open_partial_csv,
    path_and_time_cells,
)
from birdmix.inference.recording_predictions import unused_column_names
from birdmix.labels import Labels
from birdmix.text import escape_surrogates
from birdmix.windows import probability

FIXED_COLUMNS = (*PATH_AND_TIME_COLUMNS, "start_seconds", "end_seconds")

#: Probabilities in a row group, and most rows: memory is bounded for recordings of any length.
_GROUP_CELLS = 1 << 22
_MAX_ROWS = 1 << 17

#: Probabilities whose text is made at a time: few enough for a processor's cache.
_TEXT_CELLS = 1 << 14

#: Some windows of a recording.
_Piece = tuple[RecordingResult, slice]


def probability_columns(labels: Labels) -> tuple[str, ...]:
    """Return the columns: the fixed ones, then codes, with a ``_`` appended to names in use."""
    return (*FIXED_COLUMNS, *unused_column_names(labels.codes, FIXED_COLUMNS))


@contextmanager
def open_probabilities_csv(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``probabilities.csv``, with six significant digits."""
    num_rows = max(_TEXT_CELLS // max(len(info.labels), 1), 1)
    with open_partial_csv(file, probability_columns(info.labels)) as writer:

        def write(result: RecordingResult) -> None:
            windows = result.predictions
            for at in range(0, len(windows.logits), num_rows):
                some = slice(at, at + num_rows)
                times = (windows.start_seconds[some].tolist(), windows.end_seconds[some].tolist())
                texts = format_probabilities(probability(windows.logits[some]))
                for start, end, text in zip(*times, texts, strict=True):
                    span = (format_decimal(start), format_decimal(end))
                    writer.writerow([*path_and_time_cells(result, start), *span], text)

        yield write


@contextmanager
def open_probabilities_parquet(file: Path, info: SharedMetadata) -> Iterator[Write]:
    """Write ``probabilities.parquet``: probabilities in float32, datetimes in ISO 8601.

    Text in Parquet is UTF-8: other bytes of a path are written like ``\\xff``.
    """
    # Imported here: the format is rarely used, and pyarrow is slow to import.
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_classes = len(info.labels)
    types = (*[pa.string()] * 3, *[pa.float64()] * 2, *[pa.float32()] * num_classes)
    schema = pa.schema(list(zip(probability_columns(info.labels), types, strict=True)))
    max_rows = min(max(_GROUP_CELLS // max(num_classes, 1), 1), _MAX_ROWS)
    settings: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["path", "datetime", "deployment"],
        "write_statistics": list(FIXED_COLUMNS),  # those of each species would enlarge the file
    }
    group: list[_Piece] = []
    num_free = max_rows
    with pq.ParquetWriter(file, schema, **settings) as writer:

        def write_group() -> None:
            nonlocal num_free
            rows = pa.Table.from_arrays(_arrow_columns(group), schema=schema)
            writer.write_table(rows, row_group_size=max_rows)
            group.clear()
            num_free = max_rows

        def write(result: RecordingResult) -> None:
            nonlocal num_free
            at, end = 0, len(result.predictions.logits)
            while at < end:
                piece = slice(at, min(at + num_free, end))
                group.append((result, piece))
                num_free -= piece.stop - at
                at = piece.stop
                if num_free == 0:
                    write_group()

        yield write
        if group:
            write_group()


def _arrow_columns(group: list[_Piece]) -> list[Any]:
    """Return the columns of a row group."""
    import pyarrow as pa

    def repeated(texts: list[str]) -> Any:
        return pa.array(texts, pa.string()).take(pieces)

    def concatenate(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays))

    lengths = [piece.stop - piece.start for _, piece in group]
    pieces = pa.array(np.repeat(np.arange(len(group)), lengths))
    start = [each.predictions.start_seconds[piece] for each, piece in group]
    datetimes = [
        format_datetime_at_offset(each.recorded_at, at)
        for (each, _), starts in zip(group, start, strict=True)
        for at in starts.tolist()
    ]
    probabilities = probability(
        concatenate(each.predictions.logits[piece] for each, piece in group)
    )
    return [
        repeated([escape_surrogates(each.path) for each, _ in group]),
        pa.array(datetimes, pa.string()),
        repeated([escape_surrogates(each.deployment) for each, _ in group]),
        pa.array(concatenate(start)),
        pa.array(concatenate(each.predictions.end_seconds[piece] for each, piece in group)),
        *map(pa.array, np.ascontiguousarray(probabilities.T, np.float32)),
    ]
