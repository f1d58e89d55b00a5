"""Stages: a run that begins with the weights of another one (``init_from``)."""

from pathlib import Path

from birdmix.app.console import say, warn
from birdmix.app.schema import Config
from birdmix.bundle.manifest import MANIFEST, Manifest, read_manifest
from birdmix.bundle.weights import read_weights
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.stages import carry_over


def begin_from(classifier: Classifier, config: Config, labels: Labels) -> None:
    """Give a fresh classifier the weights of the stage before, and say which it took.

    Raises:
        ValueError: If there is no such bundle, or its backbone is another one.
    """
    assert config.init_from is not None
    folder = Path(config.init_from)
    if not (folder / MANIFEST).is_file() and (folder / "bundle" / MANIFEST).is_file():
        folder = folder / "bundle"
    before = read_manifest(folder)
    try:
        taken = carry_over(
            classifier, read_weights(folder), own=labels.codes, other=before.labels.codes
        )
    except ValueError as error:
        raise ValueError(f"init_from={config.init_from}: {error}") from error
    say(f"from {folder}: {taken}")
    _warn_of_another_front_end(before, config)


def _warn_of_another_front_end(before: Manifest, config: Config) -> None:
    """Say what the stage before heard otherwise; weights can get used to that."""
    heard, hears = vars(before.log_mel), vars(config.frontend.log_mel)
    changes = [
        f"{name} {heard[name]} -> {hears[name]}" for name in hears if heard[name] != hears[name]
    ]
    if changes:
        warn(f"frontend.log_mel is not that of {config.init_from}: {', '.join(changes)}")
