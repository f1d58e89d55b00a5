"""A training run: trains a model and writes the run directory.

Files of a run directory:

config.yaml  metrics.csv  metrics.json  timings.csv  timings.json  last.ckpt  previous.ckpt
tensorboard/
bundle/      best/        figures/      out_of_fold.parquet (if recordings are held out)
submission.csv (if the data has test soundscapes)
"""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from birdmix.config.resume_policy import result_changes
from birdmix.config.run_config_file import read_config, write_config
from birdmix.config.schema import Config
from birdmix.console import log_line, open_progress_bar, silence_unless, warn, warnings_as_lines
from birdmix.experiments.builders import build_training_run, check_buildable
from birdmix.experiments.run_bundles import BestBundles
from birdmix.experiments.run_console import RunConsole
from birdmix.experiments.run_directory import check_run_directory, remove_run_partials
from birdmix.experiments.run_results import draw_and_log_figures, write_results
from birdmix.files import remove_if_empty, write_text
from birdmix.loading.run_data import (
    RunData,
    describe_data,
    describe_missing_negatives,
    make_demo_if_missing,
    open_data,
)
from birdmix.messages import first_few
from birdmix.training.checkpoint import has_checkpoint, load_checkpoint
from birdmix.training.distributed_processes import Processes, connect_processes
from birdmix.training.loggers import RunLogger
from birdmix.training.metrics_log import FINAL_METRICS_FILE, num_epochs_logged
from birdmix.training.out_of_fold import OUT_OF_FOLD
from birdmix.training.phase_timer import TOTAL_TIME_FILE, EpochTimingsFile
from birdmix.training.run_position import TrainingHook
from birdmix.training.stop_requests import StopRequests
from birdmix.training.training_loop import fit
from birdmix.training.training_run import TrainingRun

#: Makes an additional hook of the training loop; the hook may end the loop by an exception.
MakeHook = Callable[[TrainingRun], TrainingHook]


def run(config: Config, directory: Path, make_hook: MakeHook | None = None) -> dict[str, float]:
    """Train, and write all files of a run.

    Args:
        config: The run's settings; with ``resume``, the settings of the resumed run.
        directory: Run directory; several processes all use the one of the first process.
        make_hook: Makes one more hook of the training loop, called after all others.

    Returns:
        The final metrics, as in ``metrics.json``; empty in processes other than the first.

    Raises:
        ValueError: If settings or data are wrong.
        RunStopped: If a stop was requested before the last epoch; a checkpoint was saved.
    """
    started_at = time.monotonic()
    check_buildable(config)
    stops = StopRequests(config.trainer.max_time)
    processes = connect_processes(config.trainer)
    directory = _directory_of_first(directory, processes)
    with (
        silence_unless(processes.is_first),
        warnings_as_lines(),
        processes.shorten_lost_process_errors(),
    ):
        state = _read_state(config, directory)
        data = _open_run_data(config, processes)
        training = build_training_run(config, data, directory, processes, state, stops)
        if processes.is_first:
            _write_run_config(config, directory, training.position.step)
        _train(config, data, training, directory, make_hook)
        if not processes.is_first:
            return {}
        metrics, result = write_results(config, data, training, directory)
        write_text(directory / FINAL_METRICS_FILE, json.dumps(metrics, indent=2) + "\n")
        draw_and_log_figures(config, data, training, directory, result)
    seconds = time.monotonic() - started_at
    write_text(directory / TOTAL_TIME_FILE, json.dumps({"seconds": round(seconds, 3)}) + "\n")
    _log_end(config, directory, metrics, seconds)
    return metrics


def _directory_of_first(directory: Path, processes: Processes) -> Path:
    """Return the run directory of the first process; the names of the others have other times."""
    first = processes.gather(directory)[0]
    if first != directory:
        remove_if_empty(directory)
    return first


def _read_state(config: Config, directory: Path) -> dict | None:
    """Return the checkpoint to resume from, or None; refuse a directory that may not be written."""
    if config.resume is None:
        if has_checkpoint(directory):
            raise ValueError(
                f"run_dir={directory} already holds a run; resume it with resume={directory}, "
                "or name another run_dir"
            )
        check_run_directory(directory, is_resumed=False)
        return None
    check_run_directory(directory, is_resumed=True)
    remove_run_partials(directory)
    if not has_checkpoint(directory) and num_epochs_logged(directory) <= 1:
        log_line(f"{directory}: no checkpoint was saved; training starts again from the beginning")
        return None
    return load_checkpoint(directory)


def _open_run_data(config: Config, processes: Processes) -> RunData:
    """Open the data of a run; the first process makes the demo, and the others wait for it."""
    demo = make_demo_if_missing(config.data, open_progress_bar) if processes.is_first else None
    if demo is not None:
        log_line(f"made a demo of synthetic birds in {demo}")
    processes.gather(None)  # waits for the first process
    data = open_data(config.data, config.frontend.log_mel.sample_rate, open_progress_bar)
    for line in describe_data(data, config.data):
        log_line(line)
    if warning := describe_missing_negatives(data.train, config.data):
        warn(warning)  # not by warnings.warn, which prints it for the first run of a sweep only
    return data


def _write_run_config(config: Config, directory: Path, step: int) -> None:
    """Write the run's settings; copy the former ones to a file if they can change the result."""
    if config.resume is not None:
        former = read_config(directory)
        changes = result_changes(former, config)
        name = f"config.until-step-{step}.yaml"
        if changes and not (directory / name).exists():
            write_config(directory, former, name)
        if changes:
            warn(f"the run continues with other settings: {first_few(changes, 12, name)}")
        config = replace(config, resume=None, resume_force=False)
    write_config(directory, config)


def _train(
    config: Config,
    data: RunData,
    training: TrainingRun,
    directory: Path,
    make_hook: MakeHook | None,
) -> None:
    """Run the training loop with its hooks and console output.

    Raises:
        OSError: If a file cannot be written; the message ends with a remedy.
    """
    processes = training.processes
    num_weights = sum(p.numel() for p in training.model.parameters())
    log_line(
        f"{config.model.backbone} with {num_weights:,} weights on {training.fabric.device}"
        + (f" and {processes.size - 1} more" if processes.size > 1 else "")
        + f"; {training.total_steps} steps; run {directory}"
    )
    with RunConsole(config, training.batches_per_epoch) as console:
        if processes.is_first:
            hooks = [console, *_file_hooks(config, data, training, directory)]
            training.hooks = [*hooks, make_hook(training)] if make_hook else hooks
        try:
            fit(training)
        except OSError as error:
            remedy = (
                f"the last checkpoint is intact: fix the cause and resume with resume={directory}"
                if has_checkpoint(directory)
                else "no checkpoint was saved; start the run again"
            )
            raise OSError(f"{error}; {remedy}") from error
    if training.position.epoch != config.trainer.max_epochs:
        log_line(
            f"{training.monitor} did not improve in {training.patience} epochs: training ends early"
        )


def _file_hooks(
    config: Config, data: RunData, training: TrainingRun, directory: Path
) -> list[TrainingHook]:
    """Make the hooks that write timings, loggers' output and the bundles of the best epochs."""
    loggers = [RunLogger(name, directory, training.position.epoch) for name in config.loggers]
    best = BestBundles(config, data.labels, training, directory)
    return [EpochTimingsFile(directory), *loggers, *([best] if config.checkpoint.best_k else [])]


def _log_end(config: Config, directory: Path, metrics: dict[str, float], seconds: float) -> None:
    """Print the main metrics, the files written, and the next command."""
    for name, value in metrics.items():
        if name.endswith(("roc_auc", "cmap", "accuracy", "tuned_macro_f1")):
            log_line(f"{name:<36} {value:.4f}")
    contents = {
        "bundle": "the model: labels, front end, weights, thresholds",
        "best": f"bundles of the best {config.checkpoint.best_k} epochs",
        OUT_OF_FOLD: "predictions of the held-out recordings",
        "submission.csv": "predictions of the test soundscapes, a row per window",
        "figures": "a mixed batch, learning curves, ROC-AUC per class",
        FINAL_METRICS_FILE: "the final metrics",
    }
    for name, content in contents.items():
        if (directory / name).exists():
            log_line(f"wrote {directory / name}  {content}")
    recordings = config.data.root or "RECORDINGS"
    log_line(f"finished in {seconds:.0f} s. Next, predict a folder of recordings:")
    command = ["birdmix", "predict", "--bundle", str(directory / "bundle"), recordings]
    log_line(f"  {shlex.join([*command, '--out', 'predictions'])}")
