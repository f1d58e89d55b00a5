"""Results of a run: bundle, thresholds, held-out predictions, submission, figures.

Figures are drawn last, so that an error in one loses no other result.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.audio.find_recordings import find_recordings
from birdmix.bundle.manifest import read_manifest
from birdmix.competitions import competition_of_folder
from birdmix.config.schema import Config
from birdmix.console import log_line, open_progress_bar_with_status
from birdmix.experiments.builders import build_validation_sets
from birdmix.experiments.run_bundles import (
    add_thresholds_to_bundle,
    copy_and_load_best_bundle,
    write_epoch_bundle,
)
from birdmix.experiments.run_directory import SUBMISSION
from birdmix.experiments.run_figures import draw_figures, warn_on_error
from birdmix.inference.make_golden_windows import create_golden_file, held_out_windows
from birdmix.kaggle.submission import make_submission
from birdmix.kaggle.submission_csv import read_aligned
from birdmix.labels import Labels
from birdmix.loading.loader import end_workers
from birdmix.loading.run_data import RunData
from birdmix.metrics.eval_result import EvalResult
from birdmix.metrics.threshold_metrics import macro_f1
from birdmix.metrics.validation_metrics import compute_metrics
from birdmix.training.checkpoint import LAST_CHECKPOINT, load_checkpoint
from birdmix.training.checkpoint_state import restore_run
from birdmix.training.loggers import RunLogger
from birdmix.training.metrics_log import METRICS_FILE
from birdmix.training.out_of_fold import OUT_OF_FOLD, write_out_of_fold
from birdmix.training.thresholds import fit_thresholds
from birdmix.training.training_run import TrainingRun
from birdmix.training.validation import evaluate
from birdmix.windows import MIN_PROBABILITY, logit


def write_results(
    config: Config, data: RunData, training: TrainingRun, directory: Path
) -> tuple[dict[str, float], EvalResult | None]:
    """Write the bundle with its thresholds, held-out predictions, and the submission.

    Args:
        config: The run's settings.
        data: The run's data.
        training: The training, which has ended.
        directory: Run directory.

    Returns:
        The final metrics, and the last evaluation: of the test soundscapes if there is one, else
        of the last validation set, else None.
    """
    bundle = directory / "bundle"
    _write_bundle(config, data.labels, training, bundle)
    results = evaluate_validation_sets(config, data, training)
    thresholds = fit_bundle_thresholds(bundle, config, data, results)
    log_mel = config.frontend.log_mel
    num_samples = log_mel.seconds_to_num_samples(config.data.segment_seconds)
    create_golden_file(bundle, held_out_windows(data, num_samples, log_mel.sample_rate))
    if results:
        rows = [validation.table for validation in training.validation]
        tables = zip(rows, results, strict=True)
        write_out_of_fold(directory / OUT_OF_FOLD, tables, config.data.fold)
    metrics = dict(read_manifest(bundle).metrics)
    test = _write_submission(config, data.labels, directory)
    if test is not None:
        metrics |= compute_metrics(test)
        if thresholds is not None and test.positive.any():
            tuned = macro_f1(test.positive, test.probability, thresholds)
            metrics[f"{test.name}_tuned_macro_f1"] = tuned
    return metrics, test or next(reversed(results), None)


def draw_and_log_figures(
    config: Config, data: RunData, training: TrainingRun, directory: Path, result: EvalResult | None
) -> None:
    """Draw the run's figures and send them to its loggers; an error becomes a warning.

    Args:
        config: The run's settings.
        data: The run's data.
        training: The training, whose hooks include the loggers.
        directory: Run directory.
        result: The last evaluation, if there is one.
    """
    media = draw_figures(config, data, training, directory, result)
    for hook in training.hooks:
        if isinstance(hook, RunLogger):
            with warn_on_error(f"the output of loggers={hook.name}"):
                hook.log_media(media, training.position.epoch)


def _write_bundle(config: Config, labels: Labels, training: TrainingRun, bundle: Path) -> None:
    """Write the bundle of the last or the best epoch, and load its weights into the model."""
    directory = training.run_dir
    if config.checkpoint.bundle == "best":
        copy_and_load_best_bundle(training, directory, bundle)
    else:
        # From the checkpoint, so that the bundle has the saved weights in any case.
        state = load_checkpoint(directory)
        if state["position"]["step"] != training.position.step:
            raise ValueError(
                f"{directory / LAST_CHECKPOINT} is incomplete; resume with resume={directory}"
            )
        restore_run(training, state, other_data=True)
        last_epoch = pd.read_csv(directory / METRICS_FILE).iloc[-1].dropna()
        metrics = {str(name): float(value) for name, value in last_epoch.items()}
        write_epoch_bundle(bundle, config, labels, training, metrics)


def _write_submission(config: Config, labels: Labels, directory: Path) -> EvalResult | None:
    """Predict the competition's test soundscapes; return their evaluation if labels are known."""
    if config.data.source not in ("demo", "birdclef"):
        return None
    root = Path(str(config.data.root))
    competition = competition_of_folder(root)
    soundscapes = root / competition.test_soundscapes
    if (
        config.data.segment_seconds < competition.window_seconds
        or not (root / competition.sample_submission).is_file()
        or not (soundscapes.is_dir() and find_recordings(soundscapes))
    ):
        return None
    submission = directory / SUBMISSION
    with open_progress_bar_with_status("predicting test soundscapes") as show:
        make_submission(
            [directory / "bundle"],
            root,
            submission,
            on_progress=lambda p: show(*p.bytes_and_status()),
        )
    if competition.cell_type != "probability" or not (root / competition.solution).is_file():
        return None
    truth, probability = (
        table.reindex(columns=list(labels.codes), fill_value=fill).to_numpy()
        for table, fill in zip(
            read_aligned(submission, root / competition.solution), (0, MIN_PROBABILITY), strict=True
        )
    )
    return EvalResult("soundscape", truth, np.ones(truth.shape, bool), logit(probability))


def evaluate_validation_sets(
    config: Config, data: RunData, training: TrainingRun
) -> list[EvalResult]:
    """Evaluate the model on all validation sets, in this process alone."""
    single = training.processes.as_single_process()
    results = []
    for validation in build_validation_sets(config, data, single):
        step = training.step
        results.append(evaluate(single, training.eval_model, step.log_mel, validation))
        end_workers(validation.batches)
    return results


def fit_bundle_thresholds(
    bundle: Path, config: Config, data: RunData, results: list[EvalResult]
) -> np.ndarray | None:
    """Fit a bundle's thresholds on the last validation set, and store them in the bundle.

    Args:
        bundle: The bundle's folder.
        config: The run's settings.
        data: The run's data.
        results: Evaluations of the validation sets.

    Returns:
        Thresholds of the probability, float64 [C], NaN for a class that is never detected; None if
        no recordings are held out.
    """
    if not results:
        return None
    settings = config.validation
    thresholds = fit_thresholds(results[-1], settings)
    values = thresholds.per_class
    add_thresholds_to_bundle(bundle, tuple(None if np.isnan(v) else float(v) for v in values))
    is_f1 = settings.threshold == "f1"
    criterion = "of the best F1" if is_f1 else f"of {settings.target_precision:g} precision"
    log_line(thresholds.describe(data.labels, criterion))
    return values
