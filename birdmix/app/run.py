"""A training run: from a configuration to a run directory.

config.yaml  metrics.csv  metrics.json  last.ckpt  tensorboard/
bundle/      figures/     submission.csv (where the data has test soundscapes)
"""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from birdmix.app.build import Data, build_training, open_data
from birdmix.app.configure import write_config
from birdmix.app.console import TrainingConsole, listening_progress, say, warnings_as_lines
from birdmix.app.figures import draw_figures
from birdmix.app.schema import Config
from birdmix.audio.decode import find_recordings
from birdmix.bundle.manifest import Manifest
from birdmix.bundle.weights import write_bundle
from birdmix.competitions import BIRDCLEF_2026
from birdmix.files import write_text
from birdmix.inference.engine import open_engine
from birdmix.kaggle.submission import aligned, submit
from birdmix.labels import Labels
from birdmix.training.checkpoint import LAST, load_checkpoint
from birdmix.training.log import METRICS
from birdmix.training.loggers import EpochLogger
from birdmix.training.loop import Training, fit
from birdmix.training.validate import Judged
from birdmix.windows import FLOOR


def run(config: Config, directory: Path) -> dict[str, float]:
    """Train, and write everything that leaves a run.

    Args:
        config: The run's settings; with ``resume`` those of the run that goes on.
        directory: Run directory.

    Returns:
        The final figures, as ``metrics.json`` holds them.

    Raises:
        ValueError: For anything in settings or data that a user can mend.
    """
    began = time.monotonic()
    with warnings_as_lines():
        state = _open_run(config, directory)
        data = open_data(config.data, config.frontend.log_mel.sample_rate)
        if state is None:
            write_config(directory, config)
        training = _train(config, data, directory, state)
        metrics = _finish(config, data, training, directory)
    metrics["seconds"] = time.monotonic() - began
    write_text(directory / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    _tell(config, directory, metrics)
    return metrics


def _open_run(config: Config, directory: Path) -> dict | None:
    """Refuse a run directory that is taken, or read the checkpoint to go on from."""
    if config.resume is not None:
        return load_checkpoint(directory)
    if (directory / LAST).exists():
        raise ValueError(
            f"run_dir={directory} holds a run already; go on with it by resume={directory}, "
            "or name another run_dir"
        )
    return None


def _train(config: Config, data: Data, directory: Path, state: dict | None) -> Training:
    loggers = [EpochLogger(name, directory) for name in config.loggers]
    training = build_training(config, data, directory, state)
    say(
        f"{config.model.backbone} with {sum(p.numel() for p in training.model.parameters()):,} "
        f"weights on {training.fabric.device}; {training.num_steps} steps; run {directory}"
    )
    with TrainingConsole(config.trainer.max_epochs, training.batches_per_epoch) as shown:
        training.hooks = [shown, *loggers]
        fit(training)
    return training


def _finish(config: Config, data: Data, training: Training, directory: Path) -> dict[str, float]:
    """Write the bundle, listen to the test soundscapes, draw the figures."""
    last_epoch = pd.read_csv(directory / METRICS).iloc[-1].dropna()
    metrics = {str(name): float(value) for name, value in last_epoch.items()}
    bundle = directory / "bundle"
    manifest = Manifest(
        labels=data.labels,
        log_mel=config.frontend.log_mel,
        model=config.model,
        segment_seconds=config.data.segment_seconds,
        metrics=metrics,
    )
    # What is exported is what was saved, not whatever the process holds.
    training.restore(load_checkpoint(directory))
    write_bundle(bundle, manifest, training.judged_model.state_dict())
    test = _submit(config, data.labels, directory)
    draw_figures(config, data, training, directory, test)
    return metrics if test is None else metrics | test.metrics()


def _submit(config: Config, labels: Labels, directory: Path) -> Judged | None:
    """Listen to the competition's test soundscapes, and judge them if the solution is known."""
    competition = BIRDCLEF_2026
    root = Path(str(config.data.root))
    soundscapes = root / competition.test_soundscapes
    if (
        config.data.source not in ("demo", "birdclef")
        or config.data.segment_seconds != competition.window_seconds
        or not (soundscapes.is_dir() and find_recordings(soundscapes))
    ):
        return None
    submission = directory / "submission.csv"
    with listening_progress("listening to test soundscapes") as on_progress:
        submit(open_engine(directory / "bundle"), root, submission, on_progress)
    if not (root / competition.solution).is_file():
        return None
    truth, score = (
        table.reindex(columns=list(labels.codes), fill_value=fill).to_numpy()
        for table, fill in zip(
            aligned(submission, root / competition.solution), (0, FLOOR), strict=True
        )
    )
    return Judged("soundscape", truth, np.log(score / (1 - score)))


def _tell(config: Config, directory: Path, metrics: dict[str, float]) -> None:
    for name, value in metrics.items():
        if name.endswith(("roc_auc", "cmap", "accuracy")):
            say(f"{name:<36} {value:.4f}")
    made = {
        "bundle": "the model: labels, front end, weights",
        "submission.csv": "the test soundscapes, window by window",
        "figures": "a mixed batch, learning curves, ROC-AUC per class",
        "metrics.json": "the final figures",
    }
    for name, what in made.items():
        if (directory / name).exists():
            say(f"wrote {directory / name}  {what}")
    heard = config.data.root or "RECORDINGS"
    say(f"in {metrics['seconds']:.0f} s. Next, listen to a folder of recordings:")
    say(f"  birdmix predict --bundle {directory / 'bundle'} {heard} --out predictions")
