"""What a run says of the recordings that it was not trained on, in one table.

Shapes: N rows, C classes.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.files import atomic_path
from birdmix.recordings.table import Recordings
from birdmix.training.judged import Judged

#: The table in a run directory.
OUT_OF_FOLD = "out_of_fold.parquet"


def write_out_of_fold(
    file: Path, sets: Iterable[tuple[Recordings, Judged]], fold: int | None
) -> None:
    """Write held-out predictions, whole or not at all.

    A row for each recording, or annotated part of one, with ``path`` (relative to ``data.root``),
    ``start_seconds`` and ``end_seconds`` (NaN: the whole recording), ``set`` (validation,
    validation_soundscape) and ``fold``; then for each label ``logit:LABEL`` and ``truth:LABEL``,
    which is NaN where nobody has looked. So that of all folds of ``-m data.fold=range(5)``::

        table = pandas.concat(map(pandas.read_parquet, Path(DIR).glob("*/out_of_fold.parquet")))
        logits, truth = table.filter(like="logit:"), table.filter(like="truth:")

    Rows of soundscapes, which no fold trains on, come once from each run.

    Args:
        file: The parquet file to write.
        sets: The rows of each validation set, and what was said of them, [N, C] each.
        fold: The fold that was held out, if one was.
    """
    parts = []
    for recordings, judged in sets:
        codes = recordings.labels.codes
        about = {
            "path": recordings.paths,
            "start_seconds": recordings.column("start"),
            "end_seconds": recordings.column("end"),
            "set": judged.name,
        }
        truth = np.where(judged.known, judged.truth, np.nan)
        parts.append(
            pd.concat(
                [
                    pd.DataFrame(about).assign(fold=pd.array([fold] * len(recordings), "Int64")),
                    _columns("logit", codes, judged.logits),
                    _columns("truth", codes, truth),
                ],
                axis=1,
            )
        )
    with atomic_path(file) as partial:
        pd.concat(parts, ignore_index=True).to_parquet(partial, index=False)


def _columns(kind: str, codes: Iterable[str], values: np.ndarray) -> pd.DataFrame:
    names = [f"{kind}:{code}" for code in codes]
    return pd.DataFrame(values.astype(np.float32), columns=names)
