"""Every score: a row per window, a column per species, as CSV or Parquet.

Shapes: W windows, C classes.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from birdmix.files import atomic_path
from birdmix.inference.csv_files import PLACE, decimal, moment, place, table
from birdmix.inference.detections import HeardRecording
from birdmix.labels import Labels
from birdmix.text import utf8
from birdmix.windows import probability

FIXED_COLUMNS = (*PLACE, "start_seconds", "end_seconds")

#: Scores in a row group: memory is bounded, however long recordings are.
_CELLS = 1 << 22
_MOST_ROWS = 1 << 17

#: Some windows of a recording.
_Piece = tuple[HeardRecording, slice]


def score_columns(labels: Labels) -> tuple[str, ...]:
    """Return the columns: the fixed ones, then codes, with a ``_`` behind those that are taken."""
    taken = {*FIXED_COLUMNS, *labels.codes}
    columns = list(FIXED_COLUMNS)
    for code in labels.codes:
        name = code
        while name in FIXED_COLUMNS or (name != code and name in taken):
            name += "_"
        taken.add(name)
        columns.append(name)
    return tuple(columns)


def write_csv(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write ``scores.csv``: probabilities with six digits.

    Returns:
        Number of rows.
    """
    num_rows = 0
    with table(file, score_columns(labels), num_text=len(PLACE)) as writer:
        for each in recordings:
            windows = each.predictions
            times = (windows.start_seconds.tolist(), windows.end_seconds.tolist())
            for start, end, score in zip(*times, windows.score, strict=True):
                scores = (f"{p:.6g}" for p in probability(score).tolist())
                writer.writerow([*place(each, start), decimal(start), decimal(end), *scores])
            num_rows += len(windows.score)
    return num_rows


def write_parquet(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write ``scores.parquet``: probabilities in float32, datetimes in ISO 8601.

    Text in Parquet is UTF-8: other bytes of a path are written like ``\\xff``.

    Returns:
        Number of rows.
    """
    # Imported here: listening seldom writes one, and pyarrow takes its time.
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (*[pa.string()] * 3, *[pa.float64()] * 2, *[pa.float32()] * len(labels))
    schema = pa.schema(list(zip(score_columns(labels), types, strict=True)))
    num_rows = min(max(_CELLS // max(len(labels), 1), 1), _MOST_ROWS)
    settings: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["path", "datetime", "deployment"],
        "write_statistics": list(FIXED_COLUMNS),  # those of each species would swell the file
    }
    total = 0
    with atomic_path(file) as partial, pq.ParquetWriter(partial, schema, **settings) as writer:
        for group in _groups(recordings, num_rows):
            rows = pa.Table.from_arrays(_arrays(group), schema=schema)
            writer.write_table(rows, row_group_size=num_rows)
            total += len(rows)
    return total


#: Ways to write every score, by the suffix of the file.
SCORES: dict[str, Callable[[Path, Iterable[HeardRecording], Labels], int]] = {
    "csv": write_csv,
    "parquet": write_parquet,
}


def write_scores(file: Path, recordings: Iterable[HeardRecording], labels: Labels) -> int:
    """Write every score in the way that the file's suffix names, one of ``SCORES``.

    Returns:
        Number of rows.
    """
    return SCORES[file.suffix[1:]](file, recordings, labels)


def _groups(recordings: Iterable[HeardRecording], num_rows: int) -> Iterator[list[_Piece]]:
    """Yield pieces of recordings with ``num_rows`` windows together, but for the last."""
    group: list[_Piece] = []
    room = num_rows
    for each in recordings:
        at, end = 0, len(each.predictions.score)
        while at < end:
            piece = slice(at, min(at + room, end))
            group.append((each, piece))
            room -= piece.stop - at
            at = piece.stop
            if room == 0:
                yield group
                group, room = [], num_rows
    if group:
        yield group


def _arrays(group: list[_Piece]) -> list[Any]:
    """Return the columns of some pieces."""
    import pyarrow as pa

    def repeated(texts: list[str]) -> Any:
        return pa.array(texts, pa.string()).take(places)

    def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays))

    lengths = [piece.stop - piece.start for _, piece in group]
    places = pa.array(np.repeat(np.arange(len(group)), lengths))
    start = [each.predictions.start_seconds[piece] for each, piece in group]
    moments = [
        moment(each.began, at)
        for (each, _), starts in zip(group, start, strict=True)
        for at in starts.tolist()
    ]
    scores = probability(joined(each.predictions.score[piece] for each, piece in group))
    return [
        repeated([utf8(each.path) for each, _ in group]),
        pa.array(moments, pa.string()),
        repeated([utf8(each.deployment) for each, _ in group]),
        pa.array(joined(start)),
        pa.array(joined(each.predictions.end_seconds[piece] for each, piece in group)),
        *map(pa.array, np.ascontiguousarray(scores.T, np.float32)),
    ]
