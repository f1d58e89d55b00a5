"""What a bundle says of its exported networks, and the files that hold them."""

from dataclasses import dataclass, field
from pathlib import Path

from birdmix.ownership import sha256_of


@dataclass(frozen=True)
class Export:
    """An exported network, and how near to torch it was when it was written.

    Attributes:
        file: Its name in the bundle.
        sha256: Of the file.
        precision: f32, bf16 or int8.
        num_windows: Golden windows that it was held against torch on.
        difference: Largest difference of a probability.
        rank_agreement: Spearman's correlation over the windows, mean over classes.
        top_agreement: Share of windows whose most likely class is the same.
        versions: Of the libraries that made it and heard it.
        milliseconds: What one thread took for a window where it was exported; None if it was
            exported before that was measured.
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


def exported_file(folder: Path, engine: str, export: Export) -> Path:
    """Return where an exported network lies.

    Raises:
        ValueError: If it is missing, or is not the one that was checked.
    """
    file = Path(folder) / export.file
    again = f"birdmix export --bundle {folder} --engine {engine} --precision {export.precision}"
    if not file.is_file():
        raise ValueError(f"{file}: the exported network is missing; make it again: {again}")
    if sha256_of(file) != export.sha256:
        raise ValueError(
            f"{file}: damaged, or not the network that {folder} was exported to; make it again: "
            f"{again}"
        )
    return file
