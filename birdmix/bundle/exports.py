"""What a bundle says of its exported networks, and the files that hold them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from birdmix.files import check_plain_name
from birdmix.ownership import sha256_of
from birdmix.suggest import check_choice

#: What networks can be exported in.
PRECISIONS = ("f32", "bf16", "int8")


@dataclass(frozen=True)
class Export:
    """An exported network, and how near to torch it was when it was written.

    Attributes:
        file: Its name in the bundle: a plain one, of an ONNX file.
        sha256: Of the file, in hexadecimal digits.
        precision: f32, bf16 or int8.
        num_windows: Golden windows that it was held against torch on.
        difference: Largest difference of a probability.
        rank_agreement: Spearman's correlation over the windows, mean over classes.
        top_agreement: Share of windows whose most likely class is the same.
        versions: Of the libraries that made it and heard it.
        milliseconds: What one thread took for a window where it was exported; None if it was
            exported before that was measured.

    Raises:
        ValueError: If a value is out of range, or the file would lie outside of the bundle.
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


def exported_file(folder: Path, engine: str, export: Export) -> Path:
    """Return where an exported network lies.

    Raises:
        ValueError: If it is missing, or is not the one that was checked.
    """
    file, again = Path(folder) / export.file, export_again(folder, engine, export)
    if not file.is_file():
        raise ValueError(f"{file}: the exported network is missing; {again}")
    if sha256_of(file) != export.sha256:
        raise ValueError(
            f"{file}: damaged, or not the network that {folder} was exported to; {again}"
        )
    return file


def export_again(folder: Path, engine: str, export: Export) -> str:
    """Return the remedy for an exported network that cannot be used."""
    call = f"birdmix export --bundle {folder} --engine {engine} --precision {export.precision}"
    return f"make it again: {call}"
