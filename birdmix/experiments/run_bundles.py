"""Bundles of a run: ``bundle`` of the last or the best epoch, ``best/`` of the best epochs."""

import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

from birdmix.bundle.bundle_weights import load_classifier, write_bundle
from birdmix.bundle.manifest import Manifest, read_manifest, write_manifest
from birdmix.config.schema import Config
from birdmix.files import atomic_directory, remove_folder_if_owned
from birdmix.labels import Labels
from birdmix.training.monitor import best_epochs
from birdmix.training.run_position import TrainingHook
from birdmix.training.training_run import TrainingRun

#: Folder of the bundles of the best epochs.
BEST = "best"

_EPOCH = re.compile(r"epoch-\d{3,}")


def bundle_folders_of_run(run: Path) -> list[Path]:
    """Return the folders of a run's bundles: ``bundle``, even if absent, and those in ``best/``."""
    return [run / "bundle", *_existing_best_folders(run)]


def _existing_best_folders(run: Path) -> list[Path]:
    return [path for path in sorted((run / BEST).glob("*")) if _EPOCH.fullmatch(path.name)]


def write_epoch_bundle(
    folder: Path, config: Config, labels: Labels, training: TrainingRun, metrics: dict[str, float]
) -> None:
    """Write a bundle of the current model, with the metrics of its epoch.

    Args:
        folder: The bundle's folder.
        config: The run's settings.
        labels: The label set.
        training: The training; its averaged weights are used if there are any.
        metrics: Metrics of the epoch.
    """
    manifest = Manifest(
        labels=labels,
        log_mel=config.frontend.log_mel,
        model=config.model,
        segment_seconds=config.data.segment_seconds,
        softmax=config.loss.is_softmax,
        metrics=metrics,
    )
    write_bundle(folder, manifest, training.eval_model.state_dict())


class BestBundles(TrainingHook):
    """Hook of the training loop that keeps the bundles of the best epochs: ``best/epoch-007``.

    The choice depends on the run's metrics only, so a killed and resumed run keeps the same
    epochs.

    Args:
        config: The run's settings; ``checkpoint.best_k`` is the number of epochs kept.
        labels: The label set.
        training: The training.
        run: Run directory.
    """

    def __init__(self, config: Config, labels: Labels, training: TrainingRun, run: Path) -> None:
        self.config, self.labels, self.training, self.run = config, labels, training, run

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Write a bundle if this epoch is among the best; remove bundles that no longer are."""
        best = _best_epoch_folders(self.training, self.run, self.config.checkpoint.best_k)
        latest = _epoch_folder(self.run, self.training.position.epoch)
        if latest in best:
            write_epoch_bundle(latest, self.config, self.labels, self.training, metrics)
        for folder in _existing_best_folders(self.run):
            if folder not in best and not remove_folder_if_owned(folder):
                warnings.warn(
                    f"{folder}: no longer among the best, but not removed, since it has "
                    "files that birdmix did not write",
                    stacklevel=2,
                )


def copy_and_load_best_bundle(training: TrainingRun, run: Path, bundle: Path) -> None:
    """Copy the bundle of the best epoch to the run's bundle, and load its weights.

    Args:
        training: The training; the weights of its model are replaced.
        run: Run directory.
        bundle: Folder of the run's bundle.

    Raises:
        ValueError: If ``best/`` has no bundle of an epoch with the monitored metric.
    """
    ranked = _best_epoch_folders(training, run, len(training.position.monitored))
    best = [folder for folder in ranked if folder.exists()]
    if not best:
        raise ValueError(
            f"checkpoint.bundle=best: {run / BEST} has no epoch with a {training.monitor}; "
            f"resume with resume={run} checkpoint.bundle=last"
        )
    with atomic_directory(bundle, "bundle") as partial:
        shutil.copytree(best[0], partial, dirs_exist_ok=True)
    weights = load_classifier(bundle, read_manifest(bundle)).state_dict()
    training.eval_model.load_state_dict(weights)


def add_thresholds_to_bundle(bundle: Path, thresholds: tuple[float | None, ...]) -> None:
    """Add thresholds to a bundle, one probability per label; None: the label is never detected."""
    write_manifest(bundle, replace(read_manifest(bundle), thresholds=thresholds))


def _best_epoch_folders(training: TrainingRun, run: Path, count: int) -> list[Path]:
    """Return the folders of the best epochs, best first, whether or not they exist."""
    assert training.monitor is not None  # build_training_run checks it
    epochs = best_epochs(training.position.monitored, training.monitor, count)
    return [_epoch_folder(run, epoch + 1) for epoch in epochs]


def _epoch_folder(run: Path, epoch: int) -> Path:
    return run / BEST / f"epoch-{epoch:03d}"
