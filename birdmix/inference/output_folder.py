"""The ``--out`` folder of ``birdmix predict``: its files, checked before any work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdmix.files import check_replaceable_folder
from birdmix.inference.journal_file import is_journal
from birdmix.inference.output.formats import PROBABILITIES, PROGRAMS, TABLES, OutputFormat
from birdmix.inference.output.recordings_csv import FAILED
from birdmix.inference.written_tables import RUN
from birdmix.ownership import (
    OutputFiles,
    foreign_file_reason,
    foreign_folder_reason,
    read_file_list,
)

JOURNAL = "journal.sqlite"

_REMEDY = "use another --out"


@dataclass(frozen=True)
class PredictionFiles:
    """The files and folders that a prediction writes; other files in ``--out`` are not touched.

    Attributes:
        out: The folder.
        probabilities: Tables of all probabilities: the one requested, and those that birdmix wrote
            before.
        programs: Formats of other programs: those requested, and those that birdmix wrote before.
    """

    out: Path
    probabilities: tuple[OutputFormat, ...]
    programs: tuple[OutputFormat, ...]

    @property
    def formats(self) -> tuple[OutputFormat, ...]:
        """All formats that are written."""
        return (*TABLES, *self.probabilities, *self.programs)

    @staticmethod
    def from_requested_formats(
        out: Path, probabilities: str | None, formats: Sequence[str]
    ) -> "PredictionFiles":
        """Decide what is written, and check that no file of a user would be replaced.

        Nothing is written yet.

        Args:
            out: The folder.
            probabilities: csv or parquet, to write all probabilities; None writes none.
            formats: Formats of other programs, by their names in ``PROGRAMS``.

        Raises:
            ValueError: If a file exists that birdmix did not write, or that was changed since.
        """
        files = PredictionFiles(
            out,
            tuple(
                output
                for key, output in PROBABILITIES.items()
                if key == probabilities or _is_own_file(out / output.name)
            ),
            tuple(
                output
                for key, output in PROGRAMS.items()
                if key in formats or _is_own_folder(out / output.name)
            ),
        )
        files._output_files().check()
        for output in files.programs:
            check_replaceable_folder(out / output.name, _REMEDY)
        return files

    def register(self) -> None:
        """List what birdmix writes, right before the first file is written.

        Raises:
            ValueError: If a file of a user's has appeared since the check.
        """
        self._output_files().register()

    def describe_edited_outputs(self) -> Iterator[str]:
        """Yield a line for each former output that was changed since, and so is left as it is."""
        listed = read_file_list(self.out)
        for output in PROBABILITIES.values():
            file = self.out / output.name
            is_listed = listed is not None and file.name in listed.versions
            if (
                output not in self.probabilities
                and is_listed
                and (why := foreign_file_reason(file))
            ):
                yield f"{file}: {why}, so it is left as it is"
        for output in PROGRAMS.values():
            folder = self.out / output.name
            is_listed = read_file_list(folder) is not None
            if output not in self.programs and is_listed and (why := foreign_folder_reason(folder)):
                yield f"{folder}: {why}, so it is left as it is"

    def _output_files(self) -> OutputFiles:
        tables = (output.name for output in (*TABLES, *self.probabilities))
        names = (*tables, FAILED, RUN)
        return OutputFiles(self.out, names, (JOURNAL,), _REMEDY, self._allows)

    def _allows(self, file: Path) -> bool:
        return file.name == JOURNAL and is_journal(file)


def _is_own_file(file: Path) -> bool:
    return file.is_file() and foreign_file_reason(file) is None


def _is_own_folder(folder: Path) -> bool:
    is_listed = folder.is_dir() and read_file_list(folder) is not None
    return is_listed and foreign_folder_reason(folder) is None
