"""The metrics file: one row per epoch, and after a resume as if nothing had happened."""

import os
from pathlib import Path

METRICS = "metrics.csv"

#: A run's final figures.
FINAL = "metrics.json"


class MetricsLog:
    """Append rows to a run's ``metrics.csv``.

    Rows are written ahead of the checkpoint that counts them, and a checkpoint knows the file's
    length; a resume cuts off what a killed run wrote beyond its last checkpoint.

    Args:
        run: Run directory.
        length: Bytes that the checkpoint resumed from knows of; 0 starts the file.
    """

    def __init__(self, run: Path, length: int = 0) -> None:
        self.file = run / METRICS
        run.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as stream:
            if stream.tell() < length:
                raise ValueError(
                    f"{self.file}: shorter than the checkpoint knows it; put it back as it was, "
                    "or start a new run"
                )
            stream.truncate(length)

    def append(self, row: dict[str, float]) -> int:
        """Write a row, durably; the first one also writes the header.

        Returns:
            The file's length in bytes.
        """
        header = (",".join(row) + "\n").encode()
        with self.file.open("ab+") as stream:
            if stream.tell() == 0:
                stream.write(header)
            stream.seek(0)
            if stream.readline() != header:
                raise ValueError(f"{self.file}: its columns are others now; start a new run")
            stream.write((",".join(f"{value:.10g}" for value in row.values()) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
            return stream.tell()


def num_epochs_logged(run: Path) -> int:
    """Return the number of whole rows in a run's metrics file, its header left out."""
    file = run / METRICS
    return max(file.read_bytes().count(b"\n") - 1, 0) if file.exists() else 0
