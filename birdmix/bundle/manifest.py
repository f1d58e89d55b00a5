"""``bundle.json``: what a bundle is, readable without torch."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmix import __version__
from birdmix.bundle.exports import Export, sha256_of
from birdmix.files import write_text
from birdmix.frontend.settings import LogMelSettings
from birdmix.json_data import brief, build, check_keys, checked, read_json
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from birdmix.ownership import files_below, list_files, read_list
from birdmix.tensor_headers import read_header

#: Most classes of a bundle: ten times those of the largest known models of animal sounds.
MOST_CLASSES = 150_000

#: Raised when a bundle of the format before can no longer be read.
FORMAT = 2

MANIFEST = "bundle.json"
WEIGHTS = "model.safetensors"

_BUNDLE_FILE = re.compile(r"bundle\.json|(model|golden)\.safetensors|network-(onnx|openvino)\.onnx")


@dataclass(frozen=True)
class Manifest:
    """What listening has to know about a trained model.

    Attributes:
        labels: Classes, in the order of the model's outputs.
        log_mel: The front end trained with.
        model: The architecture.
        segment_seconds: Length of the segments trained on, and of the windows listened to.
        softmax: Whether it was trained to tell which one of the classes is there.
        metrics: Figures of the run's last epoch.
        versions: birdmix, and the libraries that made the weights.
        thresholds: Probability from which each label is called, as fitted on validation; None for a
            label that is never to be called, and as a whole if none were fitted.
        exports: The exported networks, by engine.
    """

    labels: Labels
    log_mel: LogMelSettings
    model: ModelSettings
    segment_seconds: float
    softmax: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    thresholds: tuple[float | None, ...] | None = None
    exports: dict[str, Export] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_classes = len(self.labels)
        if not 1 <= num_classes <= MOST_CLASSES:
            raise ValueError(f"labels.codes: {num_classes:,} classes, of 1 to {MOST_CLASSES:,}")
        for value in self.thresholds or ():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"thresholds: {value} is no probability, it lies in [0, 1]")
        if self.thresholds is not None and len(self.thresholds) != num_classes:
            raise ValueError(f"{len(self.thresholds)} thresholds for {num_classes} labels")
        self.log_mel.check_window(self.segment_seconds, f"segment_seconds={self.segment_seconds:g}")

    @property
    def num_samples(self) -> int:
        """Window length in samples."""
        return self.log_mel.num_samples(self.segment_seconds)


def is_unlisted_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle alone, written by a birdmix that kept no lists."""
    if folder.is_symlink() or read_list(folder) is not None or not (folder / MANIFEST).is_file():
        return False
    return all(_BUNDLE_FILE.fullmatch(name) for name in files_below(folder))


def claim_bundle(folder: Path) -> None:
    """Begin the list of a bundle that was written by a birdmix which kept none."""
    if read_list(folder) is None:
        list_files(folder, "bundle", filter(_BUNDLE_FILE.fullmatch, files_below(folder)))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` into a bundle's folder; one that stands there has been read before."""
    content = {
        "format": FORMAT,
        "labels": {"codes": manifest.labels.codes, "names": manifest.labels.names},
        "segment_seconds": manifest.segment_seconds,
        "log_mel": dataclasses.asdict(manifest.log_mel),
        "model": dataclasses.asdict(manifest.model),
        "softmax": manifest.softmax,
        "thresholds": manifest.thresholds,
        "metrics": manifest.metrics,
        "versions": {"birdmix": __version__, **manifest.versions},
        "exports": {name: dataclasses.asdict(made) for name, made in manifest.exports.items()},
    }
    write_text(
        folder / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n", is_ours=True
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's ``bundle.json``.

    Raises:
        ValueError: If there is none, or it is damaged or of another format.
    """
    file = Path(folder) / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{folder}: no bundle here ({MANIFEST} is missing); "
            "a run writes its bundle to RUN_DIR/bundle"
        )
    try:
        content = read_json(file)
        check_keys(content, None, ("format",), "")
        if content["format"] == FORMAT:
            return _parse(content)
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}; write the bundle again") from error
    versions = content.get("versions")
    made_by = versions.get("birdmix", "unknown") if isinstance(versions, dict) else "unknown"
    found = f"{brief(content['format'])} (birdmix {brief(made_by, quoted=False)})"
    raise ValueError(
        f"{file}: bundle format {found}, this birdmix {__version__} reads format {FORMAT}; use the "
        "birdmix that wrote it, or train again"
    )


def check_weights(folder: Path) -> None:
    """Refuse a bundle whose weights are missing, or are no safetensors file.

    Raises:
        ValueError: With the remedy.
    """
    file = Path(folder) / WEIGHTS
    if not file.is_file():
        raise ValueError(f"{file}: no such file; copy the whole bundle")
    try:
        read_header(file)
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}; copy the whole bundle") from error


def digest(folder: Path, kind: str = "torch") -> str:
    """Return a hash of all that an engine hears by: the manifest, the weights, its own export.

    Thresholds, figures and exports for other engines do not change it.

    Args:
        folder: The bundle's folder.
        kind: The engine's: torch, onnx or openvino.
    """
    manifest = read_manifest(folder)
    own = {
        name: dataclasses.replace(made, milliseconds=None)
        for name, made in manifest.exports.items()
        if name == kind
    }
    hears = dataclasses.replace(manifest, exports=own, thresholds=None, metrics={})
    content = json.dumps(dataclasses.asdict(hears))
    weights = sha256_of(Path(folder) / WEIGHTS)
    return hashlib.sha256(f"{content} {weights}".encode()).hexdigest()


def _parse(content: dict[str, Any]) -> Manifest:
    """Build a manifest of what ``bundle.json`` holds; what it does not know of is left out."""
    required = ("labels", "log_mel", "model", "segment_seconds", "softmax", "thresholds")
    check_keys(content, None, (*required, "metrics", "versions"), "")
    labels = content["labels"]
    check_keys(labels, None, ("codes", "names"), "labels")
    codes, names = (
        checked(tuple[str, ...], labels[name], f"labels.{name}") for name in ("codes", "names")
    )
    return Manifest(
        labels=Labels(codes, names),
        log_mel=build(LogMelSettings, content["log_mel"], "log_mel"),
        model=build(ModelSettings, content["model"], "model"),
        segment_seconds=checked(float, content["segment_seconds"], "segment_seconds"),
        softmax=checked(bool, content["softmax"], "softmax"),
        # A metric that is not defined is NaN.
        metrics=checked(dict[str, float], content["metrics"], "metrics", finite=False),
        versions=checked(dict[str, str], content["versions"], "versions"),
        thresholds=checked(tuple[float | None, ...] | None, content["thresholds"], "thresholds"),
        # Bundles from before there were exports lack the key.
        exports=checked(dict[str, Export], content.get("exports", {}), "exports"),
    )
