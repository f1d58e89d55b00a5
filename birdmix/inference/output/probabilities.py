"""``probabilities.csv`` and ``.parquet``: a row per window, a column of probabilities per species.

Shapes: W windows, C classes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from birdmix.files import atomic_path
from birdmix.inference.detections import RecordingResult, SharedMetadata
from birdmix.inference.output.table_writer import (
    PATH_AND_TIME_COLUMNS,
    format_datetime_at_offset,
    format_decimal,
    open_csv,
    path_and_time_cells,
)
from birdmix.labels import Labels
from birdmix.text import escape_surrogates
from birdmix.windows import probability

FIXED_COLUMNS = (*PATH_AND_TIME_COLUMNS, "start_seconds", "end_seconds")

#: Probabilities in a row group, and most rows: memory is bounded for recordings of any length.
_GROUP_CELLS = 1 << 22
_MAX_ROWS = 1 << 17

#: Some windows of a recording.
_Piece = tuple[RecordingResult, slice]


def probability_columns(labels: Labels) -> tuple[str, ...]:
    """Return the columns: the fixed ones, then codes, with a ``_`` appended to names in use."""
    used = {*FIXED_COLUMNS, *labels.codes}
    columns = list(FIXED_COLUMNS)
    for code in labels.codes:
        name = code
        while name in FIXED_COLUMNS or (name != code and name in used):
            name += "_"
        used.add(name)
        columns.append(name)
    return tuple(columns)


def write_probabilities_csv(
    file: Path, recordings: Iterable[RecordingResult], info: SharedMetadata
) -> int:
    """Write ``probabilities.csv``, with six significant digits.

    Returns:
        Number of rows.
    """
    columns, num_rows = probability_columns(info.labels), 0
    with open_csv(file, columns, num_text=len(PATH_AND_TIME_COLUMNS)) as writer:
        for each in recordings:
            windows = each.predictions
            times = (windows.start_seconds.tolist(), windows.end_seconds.tolist())
            for start, end, logits in zip(*times, windows.logits, strict=True):
                span = (format_decimal(start), format_decimal(end))
                cells = (f"{p:.6g}" for p in probability(logits).tolist())
                writer.writerow([*path_and_time_cells(each, start), *span, *cells])
            num_rows += len(windows.logits)
    return num_rows


def write_probabilities_parquet(
    file: Path, recordings: Iterable[RecordingResult], info: SharedMetadata
) -> int:
    """Write ``probabilities.parquet``: probabilities in float32, datetimes in ISO 8601.

    Text in Parquet is UTF-8: other bytes of a path are written like ``\\xff``.

    Returns:
        Number of rows.
    """
    # Imported here: the format is rarely used, and pyarrow is slow to import.
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_classes = len(info.labels)
    types = (*[pa.string()] * 3, *[pa.float64()] * 2, *[pa.float32()] * num_classes)
    schema = pa.schema(list(zip(probability_columns(info.labels), types, strict=True)))
    num_rows = min(max(_GROUP_CELLS // max(num_classes, 1), 1), _MAX_ROWS)
    settings: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["path", "datetime", "deployment"],
        "write_statistics": list(FIXED_COLUMNS),  # those of each species would enlarge the file
    }
    total = 0
    with atomic_path(file) as partial, pq.ParquetWriter(partial, schema, **settings) as writer:
        for group in _row_groups(recordings, num_rows):
            rows = pa.Table.from_arrays(_arrow_columns(group), schema=schema)
            writer.write_table(rows, row_group_size=num_rows)
            total += len(rows)
    return total


def _row_groups(recordings: Iterable[RecordingResult], num_rows: int) -> Iterator[list[_Piece]]:
    """Yield pieces of recordings with ``num_rows`` windows together, fewer in the last group."""
    group: list[_Piece] = []
    num_free = num_rows
    for each in recordings:
        at, end = 0, len(each.predictions.logits)
        while at < end:
            piece = slice(at, min(at + num_free, end))
            group.append((each, piece))
            num_free -= piece.stop - at
            at = piece.stop
            if num_free == 0:
                yield group
                group, num_free = [], num_rows
    if group:
        yield group


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
