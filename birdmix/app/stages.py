"""Stages: a run that begins with the weights of another one (``init_from``)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from birdmix.app.configure import read_config
from birdmix.app.console import say, warn
from birdmix.app.schema import Config
from birdmix.bundle.manifest import MANIFEST, read_manifest
from birdmix.bundle.weights import read_weights
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.stages import carry_over
from birdmix.suggest import first_few
from birdmix.training.checkpoint import has_checkpoint, load_checkpoint


class Stage(NamedTuple):
    """What a run begins with.

    Attributes:
        source: The bundle, or the run directory whose checkpoint it is.
        labels: Classes that it knows.
        log_mel: The front end it was trained with.
        weights: State of its classifier, averaged if the run averaged.
    """

    source: Path
    labels: Labels
    log_mel: LogMelSettings
    weights: dict[str, Tensor]


def check_stage(config: Config) -> None:
    """Look for the files that weights are to come from.

    Raises:
        ValueError: If there is no such file, or no bundle of the stage before.
    """
    if config.init_from is not None:
        _source(config.init_from)
    if config.model.weights is not None and not Path(config.model.weights).exists():
        raise ValueError(f"model.weights={config.model.weights}: there is no such file")


def begin_from(classifier: Classifier, config: Config, labels: Labels) -> None:
    """Give a fresh classifier the weights of the stage before, and say which it took.

    Raises:
        ValueError: If there is no such bundle, or its backbone is another one.
    """
    assert config.init_from is not None
    before = _read(_source(config.init_from))
    try:
        taken = carry_over(classifier, before.weights, own=labels.codes, other=before.labels.codes)
    except ValueError as error:
        raise ValueError(f"init_from={config.init_from}: {error}") from error
    say(f"from {before.source}: {taken}")
    _tell_of_other_classes(before.labels, labels, config)
    _warn_of_another_front_end(before, config)


def _source(init_from: str) -> Path:
    """Return the bundle of a run, the bundle that is named itself, or a run that has not ended.

    Raises:
        ValueError: If it is none of these.
    """
    folder = Path(init_from)
    bundle = folder if (folder / MANIFEST).is_file() else folder / "bundle"
    if not (bundle / MANIFEST).is_file() and has_checkpoint(folder):
        read_config(folder)
        return folder
    read_manifest(bundle)
    return bundle


def _read(source: Path) -> Stage:
    if (source / MANIFEST).is_file():
        manifest = read_manifest(source)
        return Stage(source, manifest.labels, manifest.log_mel, read_weights(source))
    state, log_mel = load_checkpoint(source), read_config(source).frontend.log_mel
    weights = state["model"]
    if state["average"] is not None:
        prefix = "module."  # of torch's AveragedModel
        averaged = state["average"].items()
        weights = {n.removeprefix(prefix): w for n, w in averaged if n.startswith(prefix)}
    labels = Labels(tuple(str(state["data"].get("labels", "")).split(";")))
    return Stage(source, labels, log_mel, weights)


def _tell_of_other_classes(before: Labels, now: Labels, config: Config) -> None:
    """Name the classes of the stage before that are left out; warn if that is all of them."""
    left_out = [code for code in before.codes if code not in now]
    if len(left_out) == len(before):
        warn(
            f"no class of {config.init_from} ({first_few(before.codes)}) is one of this "
            f"run's ({first_few(now.codes)}); are they codes of the same kind?"
        )
    elif left_out:
        whole = f"the labels of {config.init_from}"
        say(f"no longer there: {len(left_out)} classes: {first_few(left_out, 5, whole)}")


def _warn_of_another_front_end(before: Stage, config: Config) -> None:
    """Say what the stage before heard otherwise; weights can get used to that."""
    heard, hears = vars(before.log_mel), vars(config.frontend.log_mel)
    changes = [
        f"{name} {heard[name]} -> {hears[name]}" for name in hears if heard[name] != hears[name]
    ]
    if changes:
        warn(f"frontend.log_mel is not that of {config.init_from}: {', '.join(changes)}")
