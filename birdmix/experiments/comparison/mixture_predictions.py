"""Predictions of a run for held-out mixtures, stored in its run directory.

Shapes: N mixtures, C classes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from birdmix.bundle.manifest import bundle_digest
from birdmix.experiments.comparison.scored_sets import ScoredSet
from birdmix.files import atomic_path
from birdmix.inference.input_files import find_input_files
from birdmix.inference.predictor import load
from birdmix.messages import first_few
from birdmix.recordings.mixture_table import MixtureSet, MixtureSets

#: File in a run directory: logits of all mixtures of the fold that the run holds out.
MIXTURE_LOGITS = "mixture_logits.parquet"

# Key of the file's metadata: which mixtures were predicted, with which weights.
_IDENTITY = b"birdmix"


def predict_mixtures(directory: Path, mixtures: MixtureSets) -> bool:
    """Predict mixtures with the bundle of a run, unless that was done before.

    Args:
        directory: Run directory.
        mixtures: The mixtures of the fold that the run holds out.

    Returns:
        Whether they were predicted now.

    Raises:
        ValueError: If a mixture cannot be predicted.
    """
    bundle = directory / "bundle"
    identity = f"{mixtures.manifest.digest} {bundle_digest(bundle)}"
    file = directory / MIXTURE_LOGITS
    if _read_identity(file) == identity:
        return False
    paths = [path for each in mixtures.sets.values() for path in each.paths]
    folder = find_input_files(paths).folder
    logits = {}
    with load(bundle) as predictor:
        for record in predictor.predict(list(paths)):
            logits[str(folder / record.path)] = record.logits.mean(axis=0)
    missing = [str(path) for path in paths if str(path) not in logits]
    if missing:
        raise ValueError(f"{len(missing)} mixtures were not predicted: {first_few(missing)}")
    codes = mixtures.labels.codes
    table = pd.DataFrame(
        np.stack([logits[str(path)] for path in paths]), columns=[f"logit:{c}" for c in codes]
    )
    table.insert(0, "path", [path.relative_to(mixtures.folder).as_posix() for path in paths])
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({_IDENTITY: identity.encode()})
    with atomic_path(file) as partial:
        pq.write_table(arrow, partial)
    return True


def read_mixture_scores(
    directory: Path, mixtures: MixtureSets, thresholds: np.ndarray | None
) -> dict[str, ScoredSet]:
    """Read the predictions of a run for mixtures, by name of the set.

    Args:
        directory: Run directory.
        mixtures: The mixtures of the fold that the run holds out.
        thresholds: Thresholds of the probability that were fitted on other folds, [C]; None for
            none.
    """
    table = pd.read_parquet(directory / MIXTURE_LOGITS).set_index("path")
    table = table[[f"logit:{code}" for code in mixtures.labels.codes]]

    def score(mixture_set: MixtureSet) -> ScoredSet:
        names = [path.relative_to(mixtures.folder).as_posix() for path in mixture_set.paths]
        scored = ScoredSet(
            mixture_set.truth >= 0.5,
            mixture_set.known,
            table.loc[names].to_numpy(np.float64),
            [
                (*groups, bed) if bed else groups
                for groups, bed in zip(mixture_set.groups, mixture_set.bed_groups, strict=True)
            ],
            names,
            num_sources=mixture_set.num_sources,
            snr_db=mixture_set.snr_db,
            fold=mixture_set.fold,
        )
        return scored if thresholds is None else scored.with_thresholds(thresholds)

    return {name: score(mixture_set) for name, mixture_set in mixtures.sets.items()}


def _read_identity(file: Path) -> str:
    """Return the identity of the predictions in a file; empty if there is none."""
    if not file.is_file():
        return ""
    try:
        metadata = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return ""
    return metadata.get(_IDENTITY, b"").decode(errors="replace")
