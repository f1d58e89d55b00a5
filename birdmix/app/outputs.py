"""What `birdmix predict` writes into --out, checked before anything is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdmix.app.console import say
from birdmix.files import check_replaceable
from birdmix.inference.journal import is_journal
from birdmix.inference.scores import SCORES
from birdmix.inference.selections import FORMATS
from birdmix.ownership import (
    OutputFiles,
    read_list,
    why_foreign_file,
    why_foreign_folder,
)

JOURNAL = "journal.sqlite"

_TABLES = ("detections.csv", "activity.csv", "effort.csv", "recordings.csv", "failed.csv")
_REMEDY = "take another --out"


@dataclass(frozen=True)
class Outputs:
    """The files and folders that a prediction writes; nothing else in --out is touched.

    Attributes:
        out: The folder.
        scores: Suffixes of the tables of every score: the one asked for, and those that birdmix
            wrote before.
        formats: Formats of other programs: those asked for, and those that birdmix wrote before.
    """

    out: Path
    scores: tuple[str, ...]
    formats: tuple[str, ...]

    @staticmethod
    def of(out: Path, scores: str | None, formats: Sequence[str]) -> "Outputs":
        """Decide what is written, and refuse it where something of a user's would be replaced.

        Nothing is written yet.

        Raises:
            ValueError: If something stands there that birdmix did not write, or has been changed
                since it did.
        """
        files = {kind: out / f"scores.{kind}" for kind in SCORES}
        known = {kind for kind, file in files.items() if _is_ours(file)}
        folders = {name: out / name for name in FORMATS}
        written = {name for name, folder in folders.items() if _is_our_folder(folder)}
        outputs = Outputs(
            out,
            tuple(kind for kind in SCORES if kind == scores or kind in known),
            tuple(name for name in FORMATS if name in formats or name in written),
        )
        outputs._files().check()
        for name in outputs.formats:
            check_replaceable(out / name, _REMEDY)
        return outputs

    def claim(self) -> None:
        """Enter in lists what birdmix writes, right before the first writing.

        Raises:
            ValueError: If something of a user's has come there since.
        """
        self._files().claim()

    def report_changed(self) -> None:
        """Say what birdmix wrote before, was changed since, and therefore stays as it is."""
        listed = read_list(self.out)
        for kind in SCORES:
            file = self.out / f"scores.{kind}"
            if kind not in self.scores and listed is not None and file.name in listed.versions:
                _report(file, why_foreign_file(file))
        for name in FORMATS:
            folder = self.out / name
            if name not in self.formats and read_list(folder) is not None:
                _report(folder, why_foreign_folder(folder))

    def _files(self) -> OutputFiles:
        scores = (f"scores.{kind}" for kind in self.scores)
        names = (*_TABLES, *scores, "run.json")
        return OutputFiles(self.out, names, (JOURNAL,), _REMEDY, self._allows)

    def _allows(self, file: Path) -> bool:
        return file.name == JOURNAL and is_journal(file)


def _is_ours(file: Path) -> bool:
    return file.is_file() and why_foreign_file(file) is None


def _is_our_folder(folder: Path) -> bool:
    is_listed = folder.is_dir() and read_list(folder) is not None
    return is_listed and why_foreign_folder(folder) is None


def _report(path: Path, why: str | None) -> None:
    if why is not None:
        say(f"{path}: {why}, so it stays as it is")
