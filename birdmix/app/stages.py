"""Stages: a run that begins with the weights of another one (``init_from``)."""

from pathlib import Path

from birdmix.app.console import say, warn
from birdmix.app.schema import Config
from birdmix.bundle.manifest import MANIFEST, Manifest, read_manifest
from birdmix.bundle.weights import read_weights
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.stages import carry_over
from birdmix.suggest import first_few


def check_stage(config: Config) -> None:
    """Look for the files that weights are to come from.

    Raises:
        ValueError: If there is no such file, or no bundle of the stage before.
    """
    if config.init_from is not None:
        read_manifest(_bundle(config.init_from))
    if config.model.weights is not None and not Path(config.model.weights).exists():
        raise ValueError(f"model.weights={config.model.weights}: there is no such file")


def begin_from(classifier: Classifier, config: Config, labels: Labels) -> None:
    """Give a fresh classifier the weights of the stage before, and say which it took.

    Raises:
        ValueError: If there is no such bundle, or its backbone is another one.
    """
    assert config.init_from is not None
    folder = _bundle(config.init_from)
    before = read_manifest(folder)
    try:
        taken = carry_over(
            classifier, read_weights(folder), own=labels.codes, other=before.labels.codes
        )
    except ValueError as error:
        raise ValueError(f"init_from={config.init_from}: {error}") from error
    say(f"from {folder}: {taken}")
    _tell_of_other_classes(before.labels, labels, config)
    _warn_of_another_front_end(before, config)


def _bundle(init_from: str) -> Path:
    """Return the bundle of a run, or the bundle that is named itself."""
    folder = Path(init_from)
    return folder if (folder / MANIFEST).is_file() else folder / "bundle"


def _tell_of_other_classes(before: Labels, now: Labels, config: Config) -> None:
    """Name the classes of the stage before that are left out; warn if that is all of them."""
    left_out = [code for code in before.codes if code not in now]
    if len(left_out) == len(before):
        warn(
            f"no class of {config.init_from} ({first_few(before.codes)}) is one of this "
            f"run's ({first_few(now.codes)}); are they codes of the same kind?"
        )
    elif left_out:
        say(f"no longer there: {len(left_out)} classes: {', '.join(left_out)}")


def _warn_of_another_front_end(before: Manifest, config: Config) -> None:
    """Say what the stage before heard otherwise; weights can get used to that."""
    heard, hears = vars(before.log_mel), vars(config.frontend.log_mel)
    changes = [
        f"{name} {heard[name]} -> {hears[name]}" for name in hears if heard[name] != hears[name]
    ]
    if changes:
        warn(f"frontend.log_mel is not that of {config.init_from}: {', '.join(changes)}")
