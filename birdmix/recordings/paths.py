"""Where recordings lie: below one root, each there, and no link leading out of it in secret."""

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from birdmix.audio.listing import SoundFiles, UnreadFile, list_sound, unread_line
from birdmix.files import inside
from birdmix.recordings.cells import Cells
from birdmix.recordings.findings import Finding, Findings, tell
from birdmix.text import nfc

_NOT_PLAIN = {"", ".", ".."}


class Root:
    """A data root; each of its folders is listed once.

    Args:
        folder: The root.
        follow_links: Whether links may lead out of it.
        excluded: Paths that are passed over, wherever they are named; ``met`` has those that were,
            as NFC.

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
        self.excluded = frozenset(map(nfc, excluded))
        self.met: set[str] = set()
        self._real = os.path.realpath(folder)
        self._listed: dict[str, dict[str, bool]] = {}

    def recordings(self, findings: Findings = None) -> list[str]:
        """List the recordings below the root that are not excluded.

        A link to a recording that is listed itself is passed over: it is the same one.

        Args:
            findings: Takes names that are no text, and sound that cannot be read; without it a
                warning tells of the latter.

        Raises:
            ValueError: If one lies behind a link that leads out of the root.
        """
        listed: list[str] = []
        twins: list[str] = []
        for path in self._sound.recordings:
            if any("\udc80" <= sign <= "\udcff" for sign in path):
                words = f"{path!r}: the name is not UTF-8; rename the file"
                tell(findings, Finding(path, "name", "not UTF-8"), words)
            elif not self._is_excluded(path):
                self._find(path, path)
                (twins if self._is_twin(path) else listed).append(path)
        self._report_unread(self._sound.unread, findings)
        if twins:
            warnings.warn(
                f"{len(twins)} links to recordings of the same root are left out, first {twins[0]}",
                stacklevel=2,
            )
        return listed

    def _report_unread(self, unread: list[UnreadFile], findings: Findings) -> None:
        left = [each for each in unread if not self._is_excluded(each.path)]
        if findings is not None:
            findings += [Finding(path, "unread", reason) for path, reason in left]
        elif left:
            warnings.warn(f"{self.folder}: {unread_line(left)}", stacklevel=3)

    def check(
        self, paths: Sequence[str], where: Callable[[int], str], findings: Findings = None
    ) -> list[str | None]:
        """Return the paths of a table as the disk spells them; None for those to leave out.

        Args:
            paths: As the table gives them: relative to the root, or absolute.
            where: Says the file and row of each.
            findings: Takes those whose recording is not there; without it that is an error.

        Raises:
            ValueError: With file and row, if one is not there or leaves the root.
        """
        checked: list[str | None] = []
        absent: dict[str, str] = {}
        for row, text in enumerate(paths):
            if not text:
                raise ValueError(f"{where(row)}: no path")
            path = text
            if not _NOT_PLAIN.isdisjoint(text.split("/")):
                path = Path(inside(self.folder, text, where(row))).as_posix()
            found = self._find(path, where, row)
            if self._is_excluded(found or path):
                found = None
            elif found is None:
                absent.setdefault(path, where(row))
            checked.append(found)
        if findings is not None:
            findings += [Finding(p, "missing", f"named by {at}") for p, at in absent.items()]
        elif absent:
            path, place = next(iter(absent.items()))
            others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise ValueError(
                f"{place}: no recording at {self.folder / path}{others}; "
                "correct the path, remove the row, or set data.root"
            )
        return checked

    def _is_excluded(self, path: str) -> bool:
        if nfc(path) not in self.excluded:
            return False
        self.met.add(nfc(path))
        return True

    def _find(self, path: str, where: Callable[[int], str] | str, row: int = 0) -> str | None:
        """Return a path as the disk spells it, None if nothing is there."""
        for spelt in self._spellings(path):
            folder, _, name = spelt.rpartition("/")
            names = self._names(folder)
            if name in names:
                if names[name] and not self.follow_links:
                    self._refuse_outside(spelt, where if isinstance(where, str) else where(row))
                return spelt
        return None

    def _spellings(self, path: str) -> Iterator[str]:
        """Yield how the disk may spell a path: as told; with other accents; not as Windows."""
        yield path
        if not path.isascii() and nfc(path) in self._by_nfc:
            yield self._by_nfc[nfc(path)]
        if "\\" in path:
            yield from self._spellings(path.replace("\\", "/"))

    @cached_property
    def _by_nfc(self) -> dict[str, str]:
        """Return the recordings below the root by their paths as NFC: macOS writes names as NFD."""
        return {nfc(path): path for path in self._sound.recordings}

    @cached_property
    def _sound(self) -> SoundFiles:
        return list_sound(self.folder)

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

    def _real_place(self, path: str) -> str | None:
        """Return where a path leads to, relative to the root; None if that is outside."""
        real = os.path.realpath(os.path.join(self.folder, path))
        if os.path.commonpath([self._real, real]) != self._real:
            return None
        return Path(os.path.relpath(real, self._real)).as_posix()

    def _is_twin(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if not self._names(folder)[name]:
            return False
        place = self._real_place(path)
        return place is not None and place != path and nfc(place) not in self.excluded

    def _refuse_outside(self, path: str, where: str) -> None:
        if self._real_place(path) is None:
            raise ValueError(
                f"{where}: a link leads out of the data root, to "
                f"{os.path.realpath(os.path.join(self.folder, path))}; "
                "set data.follow_links=true if it is meant to"
            )


def present(cells: Cells, paths: Sequence[str], root: Root, findings: Findings = None) -> list[str]:
    """Return the paths of a table, a row each, as the disk spells them.

    Args:
        cells: The table; rows whose recording is excluded or missing leave it.
        paths: As it gives them.
        root: The data root.
        findings: Takes what is missing; without it that is an error.
    """
    checked = root.check(paths, cells.where, findings)
    if None in checked:
        cells.keep(np.array([path is not None for path in checked]))
    return [path for path in checked if path is not None]
