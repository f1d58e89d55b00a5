"""Records of a bundle's exported networks: file, precision and agreement with torch."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.files import check_plain_name
from birdmix.messages import check_choice
from birdmix.ownership import sha256_of

#: Number formats of exported networks.
PRECISIONS = ("f32", "bf16", "int8")


@dataclass(frozen=True)
class ExportRecord:
    """Record of an exported network, with its agreement with torch when it was written.

    Attributes:
        file: Name of the ONNX file in the bundle, without a folder.
        sha256: SHA-256 of the file, in hexadecimal digits.
        precision: f32, bf16 or int8.
        num_windows: Number of golden windows on which it was compared with torch.
        difference: Largest absolute difference of a probability.
        rank_agreement: Spearman correlation over the windows, mean over classes.
        top_agreement: Share of windows in which the most likely class is the same.
        versions: Versions of the libraries that wrote and ran it, by name.
        milliseconds: Time of one thread for a window on the exporting machine; None if the export
            is older than this field.

    Raises:
        ValueError: If a value is out of range, or the file would be outside of the bundle.
    """

    file: str
    sha256: str
    precision: str
    num_windows: int
    difference: float
    rank_agreement: float
    top_agreement: float
    versions: dict[str, str] = field(default_factory=dict)
    milliseconds: float | None = None

    def __post_init__(self) -> None:
        check_plain_name(self.file, f"file={self.file!r}")
        if not self.file.endswith(".onnx"):
            raise ValueError(f"file={self.file!r}: it must end in .onnx")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256={self.sha256!r}: it must be 64 hexadecimal digits")
        check_choice("precision", self.precision, PRECISIONS)
        if self.num_windows < 1:
            raise ValueError(f"num_windows={self.num_windows}: it must be at least 1")
        if self.milliseconds is not None and not self.milliseconds > 0:
            raise ValueError(f"milliseconds={self.milliseconds}: it must be above 0")


def verify_exported_file(folder: Path, engine: str, export: ExportRecord) -> Path:
    """Return the file of an exported network, after checking its hash.

    Args:
        folder: The bundle's folder.
        engine: Engine of the export: onnx or openvino.
        export: The export's record.

    Raises:
        ValueError: If the file is missing, or is not the one that was compared with torch.
    """
    file, remedy = Path(folder) / export.file, export_remedy(folder, engine, export)
    if not file.is_file():
        raise ValueError(f"{file}: the exported network is missing; {remedy}")
    if sha256_of(file) != export.sha256:
        raise ValueError(
            f"{file}: damaged, or not the network that {folder} was exported to; {remedy}"
        )
    return file


def export_remedy(folder: Path, engine: str, export: ExportRecord) -> str:
    """Return the remedy for an exported network that cannot be used."""
    call = f"birdmix export --bundle {folder} --engine {engine} --precision {export.precision}"
    return f"make it again: {call}"
