"""The metrics file ``metrics.csv``: one row per epoch, truncated correctly when a run resumes."""

import os
from pathlib import Path

METRICS_FILE = "metrics.csv"

#: Final metrics of a run.
FINAL_METRICS_FILE = "metrics.json"


class MetricsLog:
    """Appends rows to a run's ``metrics.csv``.

    A row is written before the checkpoint of its epoch, which stores the length of the file.
    Resuming removes rows that a killed run wrote after its last checkpoint.

    Args:
        run: Run directory.
        length: Length of the file in the checkpoint, in bytes; 0 starts a new file.

    Raises:
        ValueError: If the file is shorter.
    """

    def __init__(self, run: Path, length: int = 0) -> None:
        self.file = run / METRICS_FILE
        run.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as stream:
            if stream.tell() < length:
                raise ValueError(
                    f"{self.file}: shorter than when the checkpoint was written; restore it, or "
                    "start a new run"
                )
            stream.truncate(length)

    def append(self, row: dict[str, float]) -> int:
        """Write a row to the disk, after a header if the file is empty.

        Args:
            row: Values by column.

        Returns:
            The length of the file in bytes.

        Raises:
            ValueError: If the columns differ from those of the file.
        """
        header = (",".join(row) + "\n").encode()
        with self.file.open("ab+") as stream:
            if stream.tell() == 0:
                stream.write(header)
            stream.seek(0)
            if stream.readline() != header:
                raise ValueError(f"{self.file}: its columns changed; start a new run")
            stream.write((",".join(f"{value:.10g}" for value in row.values()) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
            return stream.tell()


def num_epochs_logged(run: Path) -> int:
    """Return the number of complete rows in a run's metrics file, without the header."""
    file = run / METRICS_FILE
    return max(file.read_bytes().count(b"\n") - 1, 0) if file.exists() else 0
