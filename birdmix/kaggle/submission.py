"""Write a submission: window predictions in a competition's rows and columns."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.competitions import BIRDCLEF_2026, Competition
from birdmix.files import atomic_path
from birdmix.inference.engine import Engine
from birdmix.inference.listen import Listening, Progress, listen, recordings_in
from birdmix.inference.listener import Listener
from birdmix.inference.settings import ListenSettings
from birdmix.windows import FLOOR, WindowPredictions


def submit(
    engine: Engine,
    data: Path,
    out: Path,
    on_progress: Progress | None = None,
    listening: Listening | None = None,
) -> Listening:
    """Predict a competition's test soundscapes and write the submission.

    Columns are the sample submission's, in its order; rows are the windows of the soundscapes
    found. A column that the model does not know gets 1 / columns, and is named in a warning.

    Args:
        engine: The model; it hears what it was trained on about each row.
        data: The competition's folder.
        out: The submission to write, whole or not at all.
        on_progress: Called after each soundscape.
        listening: The books to keep.

    Returns:
        The books of the listening: files, seconds, failures.

    Raises:
        ValueError: If the folder, the sample submission or the segment length does not fit.
    """
    competition = BIRDCLEF_2026
    columns = _columns(data / competition.sample_submission)
    listener = Listener([engine], ListenSettings(window=competition.window_seconds))
    prior = 1 / len(columns)
    books = listening if listening is not None else Listening()
    soundscapes = data / competition.test_soundscapes
    tables = [
        _rows(each, engine.manifest.labels.codes, columns, prior, competition)
        for each in _heard(listener, soundscapes, on_progress, books)
    ]
    if not tables:
        raise ValueError(f"{soundscapes}: none of {books.num_files} soundscapes yields samples")
    _warn(columns, engine.manifest.labels.codes, prior, books)
    _write(out, pd.concat(tables, ignore_index=True))
    return books


def _heard(
    listener: Listener, soundscapes: Path, on_progress: Progress | None, books: Listening
) -> Iterator[WindowPredictions]:
    """Hear the soundscapes, in the order of their names."""
    paths = recordings_in(soundscapes)
    with listener:
        heard = listen(listener, soundscapes, paths, on_progress=on_progress, listening=books)
        yield from sorted(heard, key=lambda each: each.path)


def _columns(sample: Path) -> list[str]:
    if not sample.is_file():
        raise ValueError(f"{sample}: no such file; name the competition's folder: --data DIR")
    columns = [str(name) for name in pd.read_csv(sample, nrows=0).columns]
    if columns[:1] != ["row_id"] or len(columns) < 2:
        raise ValueError(f"{sample}: expected the columns row_id and one per species")
    return columns[1:]


def _rows(
    predictions: WindowPredictions,
    codes: tuple[str, ...],
    columns: list[str],
    prior: float,
    competition: Competition,
) -> pd.DataFrame:
    stem = Path(predictions.path).stem
    ends = predictions.start_seconds + competition.window_seconds
    known = pd.DataFrame(predictions.probability, columns=list(codes))
    rows = known.reindex(columns=columns, fill_value=prior).clip(FLOOR, 1 - FLOOR)
    rows.insert(0, "row_id", [competition.row_id(stem, end) for end in ends])
    return rows


def _warn(columns: list[str], codes: tuple[str, ...], prior: float, books: Listening) -> None:
    unheard = [column for column in columns if column not in codes]
    if unheard:
        warnings.warn(
            f"the bundle does not know {len(unheard)} of {len(columns)} species, they get "
            f"{prior:.4f}: {', '.join(unheard)}",
            stacklevel=2,
        )
    for path, reason in books.failed:
        warnings.warn(f"no rows for {path}: {reason}", stacklevel=2)


def _write(out: Path, table: pd.DataFrame) -> None:
    assert np.isfinite(table.iloc[:, 1:].to_numpy()).all()
    with atomic_path(out) as partial:
        table.to_csv(partial, index=False, float_format="%.8g")
