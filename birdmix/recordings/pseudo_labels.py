"""Pseudo labels: probabilities predicted by an earlier model, read as recordings with soft labels.

Shapes: N windows, C classes.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from birdmix.labels import Labels
from birdmix.messages import first_few, first_line
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.settings import PseudoSettings
from birdmix.text import nfc, unescape_formula

_SPAN_COLUMNS = ("path", "start_seconds", "end_seconds")

#: Latest plausible end of a window in seconds; later ones are refused.
_MAX_END_SECONDS = 1e9


def read_pseudo_labels(settings: PseudoSettings, labels: Labels, follow_links: bool) -> Recordings:
    """Read predicted windows as spans of recordings whose targets are the probabilities.

    Probabilities below ``threshold`` become 0. If a window's probabilities add up to more than
    ``cap``, all are scaled down by the same factor. Labels without a column in the table are
    unknown, and listed in a warning.

    Args:
        settings: Table, folder of its recordings, threshold, cap and weight.
        labels: The run's label set of C classes; other columns are left out.
        follow_links: Whether links may lead out of the folder.

    Returns:
        A row for each of the N windows.

    Raises:
        ValueError: If it is not a table of predictions, or has none of the labels.
    """
    file = Path(str(settings.table))
    table = _read_table(file)
    codes = [code for code in labels.codes if nfc(code) in table]
    if not codes:
        raise ValueError(f"{file}: no column is a label of this run; use a model of these classes")
    unknown = [code for code in labels.codes if nfc(code) not in table]
    if unknown:
        warnings.warn(
            f"{file}: no column for {len(unknown)} of {len(labels)} labels, which are unknown in "
            f"its windows: {first_few(unknown, 10)}",
            stacklevel=2,
        )
    root = DataRoot(Path(settings.root or file.parent), follow_links, key="data.pseudo.root")
    texts = ["" if path is None or path != path else path for path in table["path"]]
    not_text = np.array([not isinstance(text, str) for text in texts], bool)
    _refuse(not_text, file, "path is not text")
    paths = root.find_table_paths_on_disk(texts, lambda row: f"{file}, row {row + 2}")
    start, end = (_parse_numbers(table, name, file) for name in _SPAN_COLUMNS[1:])
    _refuse(
        ~((start >= 0) & (end > start) & (end <= _MAX_END_SECONDS)),
        file,
        "start_seconds and end_seconds need 0 <= start < end <= 1e9",
    )
    probability = np.stack([_parse_numbers(table, nfc(code), file) for code in codes], axis=1)
    probability = probability.astype(np.float32)
    out_of_range = ((probability < 0) | (probability > 1)).any(axis=1)
    _refuse(np.asarray(out_of_range), file, "a probability must be in [0, 1]")
    probability = np.where(probability >= settings.threshold, probability, 0)
    if settings.cap is not None:
        total = np.maximum(probability.sum(axis=1, keepdims=True), 1e-9)
        probability *= np.minimum(settings.cap / total, 1)
    columns = [labels.column(code) for code in codes]
    target = np.zeros((len(paths), len(labels)), np.float32)
    known = np.zeros(target.shape, bool)
    target[:, columns], known[:, columns] = probability, True
    recordings = Recordings.build(
        root.folder,
        labels,
        path=[path for path in paths if path is not None],
        codes=[()] * len(paths),
        weight=np.full(len(paths), settings.weight),
    )
    return recordings.with_spans_and_labels(start, end, target, known)


def _read_table(file: Path) -> pd.DataFrame:
    """Read a table of window predictions; its column names are NFC."""
    if not file.is_file():
        raise ValueError(f"data.pseudo.table={file}: no such file")
    try:
        is_parquet = file.suffix == ".parquet"
        if is_parquet:
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, dtype={"path": str})
            header = pd.read_csv(file, header=None, nrows=1, dtype=str).iloc[0].dropna()
            _refuse_repeated_columns(header)
    except OverflowError:
        raise ValueError(f"{file}: a number has more than 300 digits") from None
    except (ValueError, pd.errors.ParserError, pa.ArrowException) as error:
        raise ValueError(f"{file}: not a table of predictions: {first_line(error)}") from error
    table.columns = [
        nfc(name if is_parquet else unescape_formula(name)) for name in map(str, table)
    ]
    missing = [name for name in _SPAN_COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{file}: no column '{missing[0]}'; it is not a table of predictions")
    return table


def _parse_numbers(table: pd.DataFrame, name: str, file: Path) -> np.ndarray:
    try:
        numbers = np.asarray(pd.to_numeric(table[name], errors="coerce"), np.float64)
    except OverflowError:  # Python reads integers of any length
        raise ValueError(f"{file}: {name} has numbers of more than 300 digits") from None
    _refuse(np.isnan(numbers), file, f"{name} is not a number")
    return numbers


def _refuse(wrong: np.ndarray, file: Path, problem: str) -> None:
    if wrong.any():
        raise ValueError(f"{file}, row {int(np.flatnonzero(wrong)[0]) + 2}: {problem}")


def _refuse_repeated_columns(names: pd.Series) -> None:
    """Refuse columns of the same name; pandas would silently rename the second."""
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(f"column '{repeated.iloc[0]}' occurs twice")
