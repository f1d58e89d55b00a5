"""The bundles of a run: of its last epoch, and of its best ones."""

import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

from birdmix.app.schema import Config
from birdmix.bundle.manifest import Manifest, read_manifest, write_manifest
from birdmix.bundle.weights import load_classifier, write_bundle
from birdmix.files import atomic_directory, remove_folder
from birdmix.labels import Labels
from birdmix.training.monitor import best_epochs
from birdmix.training.position import Position
from birdmix.training.run import Training

BEST = "best"

_EPOCH = re.compile(r"epoch-\d{3,}")


def bundle_folders(run: Path) -> list[Path]:
    """Return the folders that hold a run's bundles, or will hold its last."""
    return [run / "bundle", *_epoch_folders(run)]


def _epoch_folders(run: Path) -> list[Path]:
    return [each for each in sorted((run / BEST).glob("*")) if _EPOCH.fullmatch(each.name)]


def write_epoch(
    folder: Path, config: Config, labels: Labels, training: Training, metrics: dict[str, float]
) -> None:
    """Write the model as it stands, with the figures of its epoch."""
    manifest = Manifest(
        labels=labels,
        log_mel=config.frontend.log_mel,
        model=config.model,
        segment_seconds=config.data.segment_seconds,
        softmax=config.loss.is_softmax,
        metrics=metrics,
    )
    write_bundle(folder, manifest, training.judged_model.state_dict())


class BestBundles:
    """A hook of the loop: keeps the bundles of the best epochs, ``best/epoch-007`` and so on.

    Which epochs those are is a function of the run's figures so far, so that a killed and resumed
    run ends with the same ones.

    Args:
        config: Says how many.
        labels: The label set.
        training: What is trained.
        run: Run directory.
    """

    def __init__(self, config: Config, labels: Labels, training: Training, run: Path) -> None:
        self.config, self.labels, self.training, self.run = config, labels, training, run

    def on_batch(self, position: Position, num_samples: int) -> None:
        """Nothing to keep."""

    def on_validation(self) -> None:
        """Nothing to keep."""

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        """Keep this epoch if it is among the best, and drop the one that no longer is."""
        best = _best(self.training, self.run, self.config.checkpoint.best_k)
        latest = _folder(self.run, self.training.position.epoch)
        if latest in best:
            write_epoch(latest, self.config, self.labels, self.training, metrics)
        for folder in _epoch_folders(self.run):
            if folder not in best and not remove_folder(folder):
                warnings.warn(
                    f"{folder}: no longer among the best, but kept, since it holds something that "
                    "birdmix did not write",
                    stacklevel=2,
                )


def export_best(training: Training, run: Path, bundle: Path) -> None:
    """Make the bundle of the best epoch the run's own, and go back to its weights."""
    every = _best(training, run, len(training.position.monitored))
    best = [folder for folder in every if folder.exists()]
    if not best:
        raise ValueError(
            f"checkpoint.bundle=best: {run / BEST} holds no epoch with a {training.monitor}; go on "
            f"with resume={run} checkpoint.bundle=last"
        )
    with atomic_directory(bundle, "bundle") as partial:
        shutil.copytree(best[0], partial, dirs_exist_ok=True)
    weights = load_classifier(bundle, read_manifest(bundle)).state_dict()
    training.judged_model.load_state_dict(weights)


def keep_thresholds(bundle: Path, thresholds: tuple[float | None, ...]) -> None:
    """Add thresholds, one for each label, to a bundle."""
    write_manifest(bundle, replace(read_manifest(bundle), thresholds=thresholds))


def _best(training: Training, run: Path, count: int) -> list[Path]:
    assert training.monitor is not None  # build_training has seen to it
    epochs = best_epochs(training.position.monitored, training.monitor, count)
    return [_folder(run, epoch + 1) for epoch in epochs]


def _folder(run: Path, epoch: int) -> Path:
    return run / BEST / f"epoch-{epoch:03d}"
