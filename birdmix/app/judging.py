"""What the weights that a run keeps say of everything held out; the thresholds that follow."""

from pathlib import Path

import numpy as np

from birdmix.app.build import build_validation
from birdmix.app.bundles import keep_thresholds
from birdmix.app.console import say
from birdmix.app.data import Data
from birdmix.app.schema import Config
from birdmix.loading.loader import end_workers
from birdmix.training.judged import Judged
from birdmix.training.run import Training
from birdmix.training.thresholds import fit_thresholds
from birdmix.training.validate import judge


def judge_all(config: Config, data: Data, training: Training) -> list[Judged]:
    """Hear every validation set once more; this process does it on its own."""
    alone = training.processes.alone()
    judged = []
    for each in build_validation(config, data, alone):
        judged.append(judge(alone, training.judged_model, training.step.log_mel, each))
        end_workers(each.batches)
    return judged


def fit_bundle(bundle: Path, config: Config, data: Data, judged: list[Judged]) -> np.ndarray | None:
    """Fit a bundle's thresholds on the last validation set, and keep them in it.

    Returns:
        The thresholds, float64 [C], NaN for a class never to be called; None where nothing is
        held out.
    """
    if not judged:
        return None
    settings = config.validation
    thresholds = fit_thresholds(judged[-1], settings)
    values = thresholds.values
    keep_thresholds(bundle, tuple(None if np.isnan(v) else float(v) for v in values))
    best = settings.threshold == "f1"
    wanted = "of the best F1" if best else f"of {settings.target_precision:g} precision"
    say(thresholds.tell(data.labels, wanted))
    return values
