"""A training run: from a configuration to a run directory.

config.yaml  metrics.csv  metrics.json  timings.csv  timings.json  last.ckpt  previous.ckpt
tensorboard/
bundle/      best/        figures/      out_of_fold.parquet (where something is held out)
submission.csv (where the data has test soundscapes)
"""

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from birdmix.app.build import build_training, check_buildable
from birdmix.app.bundles import BestBundles
from birdmix.app.configure import read_config, write_config
from birdmix.app.console import TrainingConsole, say, speaking, warn, warnings_as_lines
from birdmix.app.data import Data, open_data
from birdmix.app.out_of_fold import OUT_OF_FOLD
from birdmix.app.results import show_results, write_results
from birdmix.app.resume import harmful_changes
from birdmix.app.run_directory import check_run_directory, remove_run_partials
from birdmix.app.schema import Config
from birdmix.files import remove_if_empty, write_text
from birdmix.suggest import first_few
from birdmix.training.checkpoint import has_checkpoint, load_checkpoint
from birdmix.training.log import FINAL, num_epochs_logged
from birdmix.training.loggers import RunLogger
from birdmix.training.loop import fit
from birdmix.training.position import Hook
from birdmix.training.processes import Processes, open_processes
from birdmix.training.run import Training
from birdmix.training.stops import Stops
from birdmix.training.timing import TOTAL, TimingsFile

#: Makes something that listens beside the loop, and may end it by an error.
Listener = Callable[[Training], Hook]


def run(config: Config, directory: Path, listener: Listener | None = None) -> dict[str, float]:
    """Train, and write everything that leaves a run.

    Args:
        config: The run's settings; with ``resume`` those to go on with.
        directory: Run directory; of several processes the first one's counts.
        listener: Makes one more hook of the loop, which is told after all others.

    Returns:
        The final figures, as ``metrics.json`` holds them; none in other processes than the first.

    Raises:
        ValueError: For anything in settings or data that a user can mend.
        Stopped: If an end was asked for before the last epoch; everything is saved.
    """
    began = time.monotonic()
    check_buildable(config)
    stops = Stops(config.trainer.max_time)
    processes = open_processes(config.trainer)
    directory = _shared(directory, processes)
    with speaking(processes.is_first), warnings_as_lines(), processes.together():
        state = _open_run(config, directory)
        data = open_data(config.data, config.frontend.log_mel.sample_rate, processes)
        training = build_training(config, data, directory, processes, state, stops)
        if processes.is_first:
            _keep_config(config, directory, training.position.step)
        _train(config, data, training, directory, listener)
        if not processes.is_first:
            return {}
        metrics, judged = write_results(config, data, training, directory)
        write_text(directory / FINAL, json.dumps(metrics, indent=2) + "\n")
        show_results(config, data, training, directory, judged)
    seconds = time.monotonic() - began
    write_text(directory / TOTAL, json.dumps({"seconds": round(seconds, 3)}) + "\n")
    _tell(config, directory, metrics, seconds)
    return metrics


def _shared(directory: Path, processes: Processes) -> Path:
    """Return the first process's run directory; each has named one by its own clock."""
    first = processes.gather(directory)[0]
    if first != directory:
        remove_if_empty(directory)
    return first


def _open_run(config: Config, directory: Path) -> dict | None:
    """Refuse a run directory that is taken, or read the checkpoint to go on from."""
    if config.resume is None:
        if has_checkpoint(directory):
            raise ValueError(
                f"run_dir={directory} holds a run already; go on with it by resume={directory}, "
                "or name another run_dir"
            )
        check_run_directory(directory, is_resumed=False)
        return None
    check_run_directory(directory, is_resumed=True)
    remove_run_partials(directory)
    if not has_checkpoint(directory) and num_epochs_logged(directory) <= 1:
        say(f"{directory} was not saved before it ended; it starts again")
        return None
    return load_checkpoint(directory)


def _keep_config(config: Config, directory: Path, step: int) -> None:
    """Write the run's settings; those that made another result until now stay beside them."""
    if config.resume is not None:
        own = read_config(directory)
        changes = harmful_changes(own, config)
        before = f"config.until-step-{step}.yaml"
        if changes and not (directory / before).exists():
            write_config(directory, own, before)
        if changes:
            warn(f"the run goes on with other settings: {first_few(changes, 12, before)}")
        config = replace(config, resume=None, resume_force=False)
    write_config(directory, config)


def _train(
    config: Config, data: Data, training: Training, directory: Path, listener: Listener | None
) -> None:
    processes = training.processes
    num_weights = sum(p.numel() for p in training.model.parameters())
    say(
        f"{config.model.backbone} with {num_weights:,} weights on {training.fabric.device}"
        + (f" and {processes.size - 1} more" if processes.size > 1 else "")
        + f"; {training.num_steps} steps; run {directory}"
    )
    with TrainingConsole(config, training.batches_per_epoch) as shown:
        if processes.is_first:
            hooks = [shown, *_writers(config, data, training, directory)]
            training.hooks = [*hooks, listener(training)] if listener else hooks
        try:
            fit(training)
        except OSError as error:
            remedy = (
                f"the last checkpoint stands as it was: mend that and go on with resume={directory}"
                if has_checkpoint(directory)
                else "nothing of the run is left there; start it again"
            )
            raise OSError(f"{error}; {remedy}") from error
    if training.position.epoch != config.trainer.max_epochs:
        say(f"no better {training.monitor} in {training.patience} epochs: that is enough")


def _writers(config: Config, data: Data, training: Training, directory: Path) -> list[Hook]:
    """Make the hooks that write."""
    loggers = [RunLogger(name, directory, training.position.epoch) for name in config.loggers]
    best = BestBundles(config, data.labels, training, directory)
    return [TimingsFile(directory), *loggers, *([best] if config.checkpoint.best_k else [])]


def _tell(config: Config, directory: Path, metrics: dict[str, float], seconds: float) -> None:
    for name, value in metrics.items():
        if name.endswith(("roc_auc", "cmap", "accuracy", "tuned_macro_f1")):
            say(f"{name:<36} {value:.4f}")
    made = {
        "bundle": "the model: labels, front end, weights, thresholds",
        "best": f"bundles of the best {config.checkpoint.best_k} epochs",
        OUT_OF_FOLD: "what it says of the recordings held out",
        "submission.csv": "the test soundscapes, window by window",
        "figures": "a mixed batch, learning curves, ROC-AUC per class",
        FINAL: "the final figures",
    }
    for name, what in made.items():
        if (directory / name).exists():
            say(f"wrote {directory / name}  {what}")
    heard = config.data.root or "RECORDINGS"
    say(f"in {seconds:.0f} s. Next, listen to a folder of recordings:")
    command = ["birdmix", "predict", "--bundle", str(directory / "bundle"), heard]
    say(f"  {shlex.join([*command, '--out', 'predictions'])}")
