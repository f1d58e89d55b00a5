"""Where recordings lie: below one root, each there, and no link leading out of it in secret."""

import os
import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from birdmix.audio.sound_file import find_recordings
from birdmix.files import inside
from birdmix.recordings.cells import Cells

#: Takes path and place of every recording that a table names and that is not there.
Missing = dict[str, str]

_NOT_PLAIN = {"", ".", ".."}


class Root:
    """A data root; each of its folders is listed once.

    Args:
        folder: The root.
        follow_links: Whether links may lead out of it.
        excluded: Paths that are passed over, wherever they are named.

    Raises:
        ValueError: If there is no such folder.
    """

    def __init__(
        self, folder: Path, follow_links: bool = False, excluded: Collection[str] = ()
    ) -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"data.root={folder}: no such folder")
        self.folder = Path(folder)
        self.follow_links = follow_links
        self.excluded = frozenset(excluded)
        self._real = os.path.realpath(folder)
        self._listed: dict[str, dict[str, bool]] = {}

    def recordings(self) -> list[str]:
        """List all recordings below the root.

        Raises:
            ValueError: If one lies behind a link that leads out of it.
        """
        found = [path for path in find_recordings(self.folder) if path not in self.excluded]
        for path in found:
            if not path.isprintable() and any("\udc80" <= sign <= "\udcff" for sign in path):
                raise ValueError(f"{path!r}: the name is not UTF-8; rename the file")
            self._is_there(path, path)
        return found

    def check(
        self, paths: Sequence[str], where: Callable[[int], str], missing: Missing | None = None
    ) -> list[str | None]:
        """Return the paths of a table, normalised; None for those to leave out.

        Args:
            paths: As the table gives them: relative to the root, or absolute.
            where: Says the file and row of each.
            missing: Takes those whose recording is not there; without it that is an error.

        Raises:
            ValueError: With file and row, if one is not there or leaves the root.
        """
        absent: Missing = {}
        checked: list[str | None] = []
        for row, text in enumerate(paths):
            path = text
            if not _NOT_PLAIN.isdisjoint(text.split("/")):
                path = Path(inside(self.folder, text, where(row))).as_posix()
            found = None
            if path not in self.excluded:
                found = self._is_there(path, where, row)
                if found is None and "\\" in path:  # the table comes from Windows
                    found = self._is_there(path.replace("\\", "/"), where, row)
                if found is None:
                    absent.setdefault(path, where(row))
            checked.append(found)
        if missing is not None:
            missing |= absent
        elif absent:
            path, place = next(iter(absent.items()))
            others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise ValueError(
                f"{place}: no recording at {self.folder / path}{others}; "
                "correct the path, remove the row, or set data.root"
            )
        return checked

    def _is_there(self, path: str, where: Callable[[int], str] | str, row: int = 0) -> str | None:
        """Return the path as the disk spells it, None if nothing is there."""
        folder, _, name = path.rpartition("/")
        names = self._names(folder)
        if name not in names:
            # A Mac spells an accent as a letter of its own, a table mostly does not.
            spellings = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            name = next((each for each in spellings if each in names), "")
            if not name:
                return None
            path = f"{folder}/{name}".lstrip("/")
        if names[name] and not self.follow_links:
            self._refuse_outside(path, where if isinstance(where, str) else where(row))
        return path

    def _names(self, folder: str) -> dict[str, bool]:
        """Return the files of a folder, and whether a link stands on the way to each."""
        if folder not in self._listed:
            full = os.path.join(self.folder, folder)
            expected = os.path.normpath(os.path.join(self._real, folder))
            linked = os.path.realpath(full) != expected
            names = {}
            if os.path.isdir(full):
                with os.scandir(full) as entries:
                    names = {e.name: linked or e.is_symlink() for e in entries if e.is_file()}
            self._listed[folder] = names
        return self._listed[folder]

    def _refuse_outside(self, path: str, where: str) -> None:
        real = os.path.realpath(os.path.join(self.folder, path))
        if os.path.commonpath([self._real, real]) != self._real:
            raise ValueError(
                f"{where}: a link leads out of the data root, to {real}; "
                "set data.follow_links=true if it is meant to"
            )


def present(
    cells: Cells, paths: Sequence[str], root: Root, missing: Missing | None = None
) -> list[str]:
    """Return the paths of a table, a row each, normalised.

    Args:
        cells: The table; rows whose recording is excluded or missing leave it.
        paths: As it gives them.
        root: The data root.
        missing: Takes what is missing; without it that is an error.
    """
    checked = root.check(paths, cells.where, missing)
    if None in checked:
        cells.keep(np.array([path is not None for path in checked]))
    return [path for path in checked if path is not None]
