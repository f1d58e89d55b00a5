"""The table of out-of-fold predictions: logits and truth of held-out recordings.

Shapes: N rows (recordings or annotated parts), C classes.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.files import atomic_path
from birdmix.metrics.eval_result import EvalResult
from birdmix.recordings.recordings_table import Recordings

#: File in a run directory.
OUT_OF_FOLD = "out_of_fold.parquet"


def write_out_of_fold(
    file: Path, sets: Iterable[tuple[Recordings, EvalResult]], fold: int | None
) -> None:
    """Write out-of-fold predictions atomically.

    The table has a row for each recording, or annotated part of one, with the columns ``path``
    (relative to ``data.root``), ``start_seconds`` and ``end_seconds`` (NaN for a whole recording),
    ``set`` (validation, validation_soundscape) and ``fold``, and for each label ``logit:LABEL`` and
    ``truth:LABEL`` (NaN if unknown). To read the tables of all folds of ``-m data.fold=range(5)``::

        table = pandas.concat(map(pandas.read_parquet, Path(DIR).glob("*/out_of_fold.parquet")))
        logits, truth = table.filter(like="logit:"), table.filter(like="truth:")

    Soundscapes are in no training fold: their rows are in the table of every run.

    Args:
        file: The parquet file to write.
        sets: Table and evaluation result of each validation set, N rows each.
        fold: The fold that was held out, or None.
    """
    parts = []
    for recordings, result in sets:
        codes = recordings.labels.codes
        keys = {
            "path": recordings.paths,
            "start_seconds": recordings.numeric_column("start"),
            "end_seconds": recordings.numeric_column("end"),
            "set": result.name,
        }
        truth = np.where(result.known, result.truth, np.nan)
        parts.append(
            pd.concat(
                [
                    pd.DataFrame(keys).assign(fold=pd.array([fold] * len(recordings), "Int64")),
                    _label_columns("logit", codes, result.logits),
                    _label_columns("truth", codes, truth),
                ],
                axis=1,
            )
        )
    with atomic_path(file) as partial:
        pd.concat(parts, ignore_index=True).to_parquet(partial, index=False)


def _label_columns(kind: str, codes: Iterable[str], values: np.ndarray) -> pd.DataFrame:
    """Return values [N, C] as float32 columns ``KIND:LABEL``."""
    names = [f"{kind}:{code}" for code in codes]
    return pd.DataFrame(values.astype(np.float32), columns=names)
