"""The manifest of a bundle, ``bundle.json``: written and read without torch."""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdmix import __version__
from birdmix.bundle.export_records import ExportRecord, sha256_of
from birdmix.files import write_text
from birdmix.frontend.settings import LogMelSettings
from birdmix.json_data import (
    check_keys,
    convert_json_value,
    format_for_message,
    parse_dataclass,
    read_json,
)
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from birdmix.ownership import files_below, read_file_list, write_file_list
from birdmix.safetensors_header import read_header

#: Most classes of a bundle: ten times the number of the largest known models of animal sounds.
MAX_CLASSES = 150_000

#: Version of the format, increased whenever bundles of the version before cannot be read any more.
FORMAT = 3

MANIFEST = "bundle.json"
WEIGHTS = "model.safetensors"

_BUNDLE_FILE = re.compile(r"bundle\.json|(model|golden)\.safetensors|network-(onnx|openvino)\.onnx")


@dataclass(frozen=True)
class Manifest:
    """Description of a trained model, as prediction needs it.

    Attributes:
        labels: Classes, in the order of the model's outputs.
        log_mel: Settings of the front end in training.
        model: Settings of the architecture.
        segment_seconds: Length of the training segments, and default length of windows.
        softmax: Whether it was trained with a softmax, for one class per segment.
        metrics: Metrics of the run's last epoch.
        versions: Versions of birdmix and of the libraries that wrote the weights.
        thresholds: Probability from which each label is called, fitted on the validation data; None
            for a label that is never called, and as a whole if none were fitted.
        exports: Records of the exported networks, by engine.

    Raises:
        ValueError: If a value is out of range.
    """

    labels: Labels
    log_mel: LogMelSettings
    model: ModelSettings
    segment_seconds: float
    softmax: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    thresholds: tuple[float | None, ...] | None = None
    exports: dict[str, ExportRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        num_classes = len(self.labels)
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(
                f"labels.codes: {num_classes:,} classes; there must be 1 to {MAX_CLASSES:,}"
            )
        for value in self.thresholds or ():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"thresholds: {value} is not a probability; it must be in [0, 1]")
        if self.thresholds is not None and len(self.thresholds) != num_classes:
            raise ValueError(f"{len(self.thresholds)} thresholds for {num_classes} labels")
        self.log_mel.check_input_seconds(
            self.segment_seconds, f"segment_seconds={self.segment_seconds:g}"
        )

    @property
    def samples_per_window(self) -> int:
        """Window length in samples."""
        return self.log_mel.seconds_to_num_samples(self.segment_seconds)


def is_bundle_without_file_list(folder: Path) -> bool:
    """Return whether a folder holds only a bundle of a birdmix version that kept no file lists."""
    is_listed = read_file_list(folder) is not None
    if folder.is_symlink() or is_listed or not (folder / MANIFEST).is_file():
        return False
    return all(_BUNDLE_FILE.fullmatch(name) for name in files_below(folder))


def write_bundle_file_list(folder: Path) -> None:
    """Write the file list of a bundle that has none; early versions of birdmix wrote none."""
    if read_file_list(folder) is None:
        write_file_list(folder, "bundle", filter(_BUNDLE_FILE.fullmatch, files_below(folder)))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json``; an existing one, which the caller has read, is replaced."""
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
        "exports": {engine: dataclasses.asdict(e) for engine, e in manifest.exports.items()},
    }
    write_text(
        folder / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n", is_ours=True
    )


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's ``bundle.json``.

    Raises:
        ValueError: If it is missing, damaged or of another format.
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
    written_by = versions.get("birdmix", "unknown") if isinstance(versions, dict) else "unknown"
    version = format_for_message(written_by, quoted=False)
    found = f"{format_for_message(content['format'])} (birdmix {version})"
    raise ValueError(
        f"{file}: bundle format {found}, this birdmix {__version__} reads format {FORMAT}; use the "
        "birdmix version that wrote it, or train again"
    )


def check_weights_readable(folder: Path) -> None:
    """Refuse a bundle whose weights are missing, or not a safetensors file.

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


def bundle_digest(folder: Path, engine: str = "torch") -> str:
    """Return a SHA-256 of all that predictions depend on: manifest, weights, the engine's export.

    It does not depend on thresholds, metrics and the exports for other engines.

    Args:
        folder: The bundle's folder.
        engine: The engine: torch, onnx or openvino.
    """
    manifest = read_manifest(folder)
    exports = {
        name: dataclasses.replace(export, milliseconds=None)
        for name, export in manifest.exports.items()
        if name == engine
    }
    relevant = dataclasses.replace(manifest, exports=exports, thresholds=None, metrics={})
    content = json.dumps(dataclasses.asdict(relevant))
    weights = sha256_of(Path(folder) / WEIGHTS)
    return hashlib.sha256(f"{content} {weights}".encode()).hexdigest()


def _parse(content: dict[str, Any]) -> Manifest:
    """Build a manifest from the content of ``bundle.json``; unknown keys are ignored."""
    required = ("labels", "log_mel", "model", "segment_seconds", "softmax", "thresholds")
    check_keys(content, None, (*required, "metrics", "versions"), "")
    labels = content["labels"]
    check_keys(labels, None, ("codes", "names"), "labels")
    codes, names = (
        convert_json_value(tuple[str, ...], labels[name], f"labels.{name}")
        for name in ("codes", "names")
    )
    return Manifest(
        labels=Labels(codes, names),
        log_mel=parse_dataclass(LogMelSettings, content["log_mel"], "log_mel"),
        model=parse_dataclass(ModelSettings, content["model"], "model"),
        segment_seconds=convert_json_value(float, content["segment_seconds"], "segment_seconds"),
        softmax=convert_json_value(bool, content["softmax"], "softmax"),
        # An undefined metric is NaN.
        metrics=convert_json_value(dict[str, float], content["metrics"], "metrics", finite=False),
        versions=convert_json_value(dict[str, str], content["versions"], "versions"),
        thresholds=convert_json_value(
            tuple[float | None, ...] | None, content["thresholds"], "thresholds"
        ),
        # Bundles of versions without exports lack the key.
        exports=convert_json_value(dict[str, ExportRecord], content.get("exports", {}), "exports"),
    )
