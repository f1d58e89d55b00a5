"""What a run leaves when it has ended: bundle, thresholds, predictions, submission, figures.

Figures come last: whatever becomes of them, everything else stands.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.app.bundles import export_best, keep_thresholds, write_epoch
from birdmix.app.console import listening_progress, say
from birdmix.app.data import Data
from birdmix.app.feed import build_validation
from birdmix.app.figures import draw_figures, optional
from birdmix.app.golden import held_out_windows, keep_golden
from birdmix.app.out_of_fold import OUT_OF_FOLD, write_out_of_fold
from birdmix.app.run_directory import SUBMISSION
from birdmix.app.schema import Config
from birdmix.audio.listing import find_recordings
from birdmix.bundle.manifest import read_manifest
from birdmix.competitions import competition_of
from birdmix.kaggle.rows import aligned
from birdmix.kaggle.submission import submit
from birdmix.labels import Labels
from birdmix.loading.loader import end_workers
from birdmix.metrics.decisions import macro_f1
from birdmix.training.checkpoint import LAST, load_checkpoint
from birdmix.training.judged import Judged
from birdmix.training.log import METRICS
from birdmix.training.loggers import RunLogger
from birdmix.training.run import Training
from birdmix.training.state import restore
from birdmix.training.thresholds import fit_thresholds
from birdmix.training.validate import judge
from birdmix.windows import FLOOR, logit


def write_results(
    config: Config, data: Data, training: Training, directory: Path
) -> tuple[dict[str, float], Judged | None]:
    """Write the bundle with its thresholds, and listen to the test soundscapes.

    Returns:
        The final figures, and what was judged last.
    """
    bundle = directory / "bundle"
    _export(config, data.labels, training, bundle)
    judged = judge_all(config, data, training)
    thresholds = fit_bundle(bundle, config, data, judged)
    log_mel = config.frontend.log_mel
    num_samples = log_mel.num_samples(config.data.segment_seconds)
    keep_golden(bundle, held_out_windows(data, num_samples, log_mel.sample_rate))
    if judged:
        rows = [each.rows for each in training.validation]
        write_out_of_fold(directory / OUT_OF_FOLD, zip(rows, judged, strict=True), config.data.fold)
    metrics = dict(read_manifest(bundle).metrics)
    test = _submit(config, data.labels, directory)
    if test is not None:
        metrics |= test.metrics()
        if thresholds is not None and test.positive.any():
            tuned = macro_f1(test.positive, test.probability, thresholds)
            metrics[f"{test.name}_tuned_macro_f1"] = tuned
    return metrics, test or next(reversed(judged), None)


def show_results(
    config: Config, data: Data, training: Training, directory: Path, judged: Judged | None
) -> None:
    """Draw the run's figures, and hand them to its loggers; what fails is left out."""
    showing = draw_figures(config, data, training, directory, judged)
    for hook in training.hooks:
        if isinstance(hook, RunLogger):
            with optional(f"what loggers={hook.name} shows of the figures"):
                hook.show(showing, training.position.epoch)


def _export(config: Config, labels: Labels, training: Training, bundle: Path) -> None:
    """Write the bundle of the last epoch or the best one, and go back to its weights."""
    directory = training.run_dir
    if config.checkpoint.bundle == "best":
        export_best(training, directory, bundle)
    else:
        # What is exported is what was saved, not whatever the process holds.
        state = load_checkpoint(directory)
        if state["position"]["step"] != training.position.step:
            raise ValueError(f"{directory / LAST} is torn; go on with resume={directory}")
        restore(training, state, other_data=True)
        last_epoch = pd.read_csv(directory / METRICS).iloc[-1].dropna()
        figures = {str(name): float(value) for name, value in last_epoch.items()}
        write_epoch(bundle, config, labels, training, figures)


def _submit(config: Config, labels: Labels, directory: Path) -> Judged | None:
    """Listen to the competition's test soundscapes, and judge them if the solution is known."""
    if config.data.source not in ("demo", "birdclef"):
        return None
    root = Path(str(config.data.root))
    competition = competition_of(root)
    soundscapes = root / competition.test_soundscapes
    if (
        config.data.segment_seconds < competition.window_seconds
        or not (root / competition.sample_submission).is_file()
        or not (soundscapes.is_dir() and find_recordings(soundscapes))
    ):
        return None
    submission = directory / SUBMISSION
    with listening_progress("listening to test soundscapes") as on_progress:
        submit([directory / "bundle"], root, submission, on_progress=on_progress)
    if competition.value != "probability" or not (root / competition.solution).is_file():
        return None
    truth, score = (
        table.reindex(columns=list(labels.codes), fill_value=fill).to_numpy()
        for table, fill in zip(
            aligned(submission, root / competition.solution), (0, FLOOR), strict=True
        )
    )
    return Judged("soundscape", truth, np.ones(truth.shape, bool), logit(score))


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
