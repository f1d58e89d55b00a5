"""Warm start: initial weights of a run from another run or a bundle (``init_from``)."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from birdmix.bundle.bundle_weights import read_weights
from birdmix.bundle.manifest import MANIFEST, read_manifest
from birdmix.config.run_config_file import read_config
from birdmix.config.schema import Config
from birdmix.console import log_line, warn
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.messages import first_few
from birdmix.model.classifier import Classifier
from birdmix.model.weight_transfer import transfer_weights
from birdmix.training.checkpoint import has_checkpoint, load_checkpoint


class SourceModel(NamedTuple):
    """The model whose weights a run starts from.

    Attributes:
        source: Its bundle, or the run directory with its checkpoint.
        labels: Its classes.
        log_mel: Log-mel settings it was trained with.
        weights: State of its classifier; averaged weights if the run averaged them.
    """

    source: Path
    labels: Labels
    log_mel: LogMelSettings
    weights: dict[str, Tensor]


def check_weights_exist(config: Config) -> None:
    """Check that the files that ``init_from`` and ``model.weights`` name exist.

    Raises:
        ValueError: If there is no such file, bundle or run.
    """
    if config.init_from is not None:
        _find_source(config.init_from)
    if config.model.weights is not None and not Path(config.model.weights).exists():
        raise ValueError(f"model.weights={config.model.weights}: there is no such file")


def load_initial_weights(classifier: Classifier, config: Config, labels: Labels) -> None:
    """Load the weights of ``init_from`` that fit into a new classifier, and log which these are.

    Args:
        classifier: The new classifier; its weights are replaced in place.
        config: The run's settings.
        labels: Label set of the run.

    Raises:
        ValueError: If there is no such bundle or run, or it has another backbone.
    """
    assert config.init_from is not None
    source_model = _read_source_model(_find_source(config.init_from))
    try:
        summary = transfer_weights(
            classifier,
            source_model.weights,
            codes=labels.codes,
            source_codes=source_model.labels.codes,
        )
    except ValueError as error:
        raise ValueError(f"init_from={config.init_from}: {error}") from error
    log_line(f"from {source_model.source}: {summary}")
    _log_dropped_classes(source_model.labels, labels, config)
    _warn_if_log_mel_differs(source_model, config)


def _find_source(init_from: str) -> Path:
    """Return the bundle that ``init_from`` names, or a run directory that has no bundle yet.

    Raises:
        ValueError: If the folder is neither a bundle nor a run.
    """
    folder = Path(init_from)
    bundle = folder if (folder / MANIFEST).is_file() else folder / "bundle"
    if not (bundle / MANIFEST).is_file() and has_checkpoint(folder):
        read_config(folder)
        return folder
    read_manifest(bundle)
    return bundle


def _read_source_model(source: Path) -> SourceModel:
    """Read a bundle, or the last checkpoint of a run."""
    if (source / MANIFEST).is_file():
        manifest = read_manifest(source)
        return SourceModel(source, manifest.labels, manifest.log_mel, read_weights(source))
    state, log_mel = load_checkpoint(source), read_config(source).frontend.log_mel
    weights = state["model"]
    if state["average"] is not None:
        prefix = "module."  # of torch's AveragedModel
        averaged = state["average"].items()
        weights = {
            name.removeprefix(prefix): weight
            for name, weight in averaged
            if name.startswith(prefix)
        }
    labels = Labels(tuple(str(state["data"].get("labels", "")).split(";")))
    return SourceModel(source, labels, log_mel, weights)


def _log_dropped_classes(before: Labels, now: Labels, config: Config) -> None:
    """Log the classes of the former model that this run does not have; warn if these are all."""
    dropped = [code for code in before.codes if code not in now]
    if len(dropped) == len(before):
        warn(
            f"no class of {config.init_from} ({first_few(before.codes)}) is one of this "
            f"run's ({first_few(now.codes)}); are they codes of the same kind?"
        )
    elif dropped:
        place = f"the labels of {config.init_from}"
        log_line(f"dropped {len(dropped)} classes: {first_few(dropped, 5, place)}")


def _warn_if_log_mel_differs(source_model: SourceModel, config: Config) -> None:
    """Warn of log-mel settings that differ from those of the weights, which may adapt to them."""
    before, now = vars(source_model.log_mel), vars(config.frontend.log_mel)
    changes = [f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]
    if changes:
        warn(f"frontend.log_mel differs from that of {config.init_from}: {', '.join(changes)}")
