"""Soft labels that an earlier model gave: ``scores.csv`` or ``scores.parquet`` as recordings.

Shapes: N windows, C classes.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from birdmix.labels import Labels
from birdmix.recordings.paths import Root
from birdmix.recordings.settings import PseudoSettings
from birdmix.recordings.table import Recordings
from birdmix.suggest import first_few, first_line
from birdmix.text import nfc, restored

_PLACE = ("path", "start_seconds", "end_seconds")

# Seconds: a window that ends later is in no recording.
_LONGEST = 1e9


def read_pseudo(settings: PseudoSettings, labels: Labels, follow_links: bool) -> Recordings:
    """Read the windows of predictions as annotated parts, whose targets are the probabilities.

    Probabilities below ``threshold`` are no label; a window's labels add up to ``cap`` at most,
    scaled down alike; labels that the predictions do not tell of are unknown, and named in a
    warning.

    Args:
        settings: Table, folder of its recordings, cap, weight and threshold.
        labels: The run's label set; other columns are left out.
        follow_links: Whether links may lead out of the folder.

    Raises:
        ValueError: If the table is none, or has none of the labels.
    """
    file = Path(str(settings.table))
    table = _read(file)
    told = [code for code in labels.codes if nfc(code) in table]
    if not told:
        raise ValueError(f"{file}: no column is a label of this run")
    unknown = [code for code in labels.codes if nfc(code) not in table]
    if unknown:
        warnings.warn(
            f"{file}: no column for {len(unknown)} of {len(labels)} labels, which are unknown in "
            f"it: {first_few(unknown, 10)}",
            stacklevel=2,
        )
    root = Root(Path(settings.root or file.parent), follow_links)
    texts = ["" if path is None or path != path else path for path in table["path"]]
    _refuse(np.array([not isinstance(text, str) for text in texts], bool), file, "path is no text")
    paths = root.check(texts, lambda row: f"{file}, row {row + 2}")
    start, end = (_numbers(table, name, file) for name in _PLACE[1:])
    _refuse(
        ~((start >= 0) & (end > start) & (end <= _LONGEST)),
        file,
        "start_seconds and end_seconds are no span",
    )
    score = np.stack([_numbers(table, nfc(code), file) for code in told], axis=1).astype(np.float32)
    out_of_range = ((score < 0) | (score > 1)).any(axis=1)
    _refuse(np.asarray(out_of_range), file, "a probability lies in [0, 1]")
    score = np.where(score >= settings.threshold, score, 0)
    if settings.cap is not None:
        score *= np.minimum(settings.cap / np.maximum(score.sum(axis=1, keepdims=True), 1e-9), 1)
    columns = [labels.column(code) for code in told]
    target = np.zeros((len(paths), len(labels)), np.float32)
    known = np.zeros(target.shape, bool)
    target[:, columns], known[:, columns] = score, True
    recordings = Recordings.build(
        root.folder,
        labels,
        path=[path for path in paths if path is not None],
        codes=[()] * len(paths),
        weight=np.full(len(paths), settings.weight),
    )
    return recordings.as_parts(start, end, target, known)


def _read(file: Path) -> pd.DataFrame:
    """Read a table of window predictions, its labels as they are spelt, but NFC."""
    if not file.is_file():
        raise ValueError(f"data.pseudo.table={file}: no such file")
    try:
        is_parquet = file.suffix == ".parquet"
        if is_parquet:
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, dtype={"path": str})
            _refuse_twice(pd.read_csv(file, header=None, nrows=1, dtype=str).iloc[0].dropna())
    except OverflowError:
        raise ValueError(f"{file}: a number in it has more than 300 digits") from None
    except (ValueError, pd.errors.ParserError, pa.ArrowException) as error:
        raise ValueError(f"{file}: no table of predictions: {first_line(error)}") from error
    table.columns = [nfc(name if is_parquet else restored(name)) for name in map(str, table)]
    absent = [name for name in _PLACE if name not in table]
    if absent:
        raise ValueError(f"{file}: no column '{absent[0]}'; it is no table of predictions")
    return table


def _numbers(table: pd.DataFrame, name: str, file: Path) -> np.ndarray:
    try:
        numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), np.float64)
    except OverflowError:  # integers of any length are numbers to Python
        raise ValueError(f"{file}: {name} has numbers of more than 300 digits") from None
    _refuse(np.isnan(numbers), file, f"{name} is no number")
    return numbers


def _refuse(wrong: np.ndarray, file: Path, what: str) -> None:
    if wrong.any():
        raise ValueError(f"{file}, row {int(np.flatnonzero(wrong)[0]) + 2}: {what}")


def _refuse_twice(names: pd.Series) -> None:
    """Refuse columns of one name; pandas would give the second another one."""
    twice = names[names.duplicated()]
    if len(twice):
        raise ValueError(f"column '{twice.iloc[0]}' stands twice")
