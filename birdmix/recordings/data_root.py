"""The data root: listing its recordings and resolving the paths of tables below it."""

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from birdmix.audio.find_recordings import (
    AudioFileListing,
    UnsupportedFile,
    list_audio_files,
    unsupported_files_message,
)
from birdmix.files import relative_path_inside
from birdmix.recordings.data_findings import Finding, Findings, add_finding_or_raise
from birdmix.recordings.text_table import TextTable
from birdmix.text import nfc

_RELATIVE_PARTS = {"", ".", ".."}


class DataRoot:
    """A data root; each of its folders is listed once.

    Args:
        folder: The root.
        follow_links: Whether links may lead out of it.
        excluded: Paths to leave out, wherever they occur.
        key: Setting that names the folder, for the error.

    Attributes:
        matched_exclusions: The excluded paths that occurred, as NFC.

    Raises:
        ValueError: If the folder does not exist.
    """

    def __init__(
        self,
        folder: Path,
        follow_links: bool = False,
        excluded: Collection[str] = (),
        key: str = "data.root",
    ) -> None:
        if not Path(folder).is_dir():
            raise ValueError(f"{key}={folder}: no such folder")
        self.folder = Path(folder)
        self.follow_links = follow_links
        self.excluded = frozenset(map(nfc, excluded))
        self.matched_exclusions: set[str] = set()
        self._real_folder = os.path.realpath(folder)
        self._folder_names: dict[str, dict[str, bool]] = {}

    def list_recordings(self, findings: Findings = None) -> list[str]:
        """List the recordings below the root that are not excluded.

        A link to a recording that is listed itself is left out: it is the same recording.

        Args:
            findings: List for file names that are not UTF-8, and for sound files in unsupported
                formats; with None the former are errors and the latter a warning.

        Returns:
            Paths relative to the root, with forward slashes.

        Raises:
            ValueError: If a link leads out of the root.
        """
        listed: list[str] = []
        duplicate_links: list[str] = []
        for path in self._audio_files.recordings:
            if any("\udc80" <= character <= "\udcff" for character in path):
                message = f"{path!r}: the name is not UTF-8; rename the file"
                add_finding_or_raise(findings, Finding(path, "name", "not UTF-8"), message)
            elif not self._is_excluded(path):
                self._find_on_disk(path, path)
                (duplicate_links if self._is_duplicate_link(path) else listed).append(path)
        self._report_unsupported(self._audio_files.unsupported, findings)
        if duplicate_links:
            warnings.warn(
                f"{len(duplicate_links)} links to recordings of the same root are left out, "
                f"first {duplicate_links[0]}",
                stacklevel=2,
            )
        return listed

    def _report_unsupported(self, unsupported: list[UnsupportedFile], findings: Findings) -> None:
        included = [file for file in unsupported if not self._is_excluded(file.path)]
        if findings is not None:
            findings += [Finding(path, "unsupported", reason) for path, reason in included]
        elif included:
            warnings.warn(f"{self.folder}: {unsupported_files_message(included)}", stacklevel=3)

    def find_table_paths_on_disk(
        self, paths: Sequence[str], location: Callable[[int], str], findings: Findings = None
    ) -> list[str | None]:
        """Return the paths of a table as they are spelt on disk; None for rows to leave out.

        Args:
            paths: Paths as in the table: relative to the root, or absolute.
            location: Function from a position in ``paths`` to its file and row, for errors.
            findings: List for missing recordings; with None they are an error.

        Returns:
            For each row the path relative to the root; None if it is excluded or missing.

        Raises:
            ValueError: With file and row, if a path is blank or leads out of the root, or its
                recording is missing.
        """
        resolved: list[str | None] = []
        missing: dict[str, str] = {}
        for row, text in enumerate(paths):
            if not text:
                raise ValueError(f"{location(row)}: no path")
            path = text
            if not _RELATIVE_PARTS.isdisjoint(text.split("/")):
                path = Path(relative_path_inside(self.folder, text, location(row))).as_posix()
            disk_path = self._find_on_disk(path, location, row)
            if self._is_excluded(disk_path or path):
                disk_path = None
            elif disk_path is None:
                missing.setdefault(path, location(row))
            resolved.append(disk_path)
        if findings is not None:
            findings += [
                Finding(p, "missing", f"listed in {place}") for p, place in missing.items()
            ]
        elif missing:
            path, place = next(iter(missing.items()))
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise ValueError(
                f"{place}: no recording at {self.folder / path}{more}; "
                "correct the path, remove the row, or set data.root"
            )
        return resolved

    def _is_excluded(self, path: str) -> bool:
        if nfc(path) not in self.excluded:
            return False
        self.matched_exclusions.add(nfc(path))
        return True

    def _find_on_disk(
        self, path: str, location: Callable[[int], str] | str, row: int = 0
    ) -> str | None:
        """Return a path as it is spelt on disk, None if the file does not exist."""
        for spelling in self._possible_spellings(path):
            folder, _, name = spelling.rpartition("/")
            names = self._list_names(folder)
            if name in names:
                if names[name] and not self.follow_links:
                    place = location if isinstance(location, str) else location(row)
                    self._refuse_outside(spelling, place)
                return spelling
        return None

    def _possible_spellings(self, path: str) -> Iterator[str]:
        """Yield possible spellings of a path on disk: as given, other Unicode form, backslashes."""
        yield path
        if not path.isascii() and nfc(path) in self._paths_by_nfc:
            yield self._paths_by_nfc[nfc(path)]
        if "\\" in path:
            yield from self._possible_spellings(path.replace("\\", "/"))

    @cached_property
    def _paths_by_nfc(self) -> dict[str, str]:
        """Return the recordings below the root by their paths as NFC: macOS writes names as NFD."""
        return {nfc(path): path for path in self._audio_files.recordings}

    @cached_property
    def _audio_files(self) -> AudioFileListing:
        return list_audio_files(self.folder)

    def _list_names(self, folder: str) -> dict[str, bool]:
        """Return the file names of a folder, and whether each is reached through a link."""
        if folder not in self._folder_names:
            full = os.path.join(self.folder, folder)
            expected = os.path.normpath(os.path.join(self._real_folder, folder))
            is_linked = os.path.realpath(full) != expected
            names = {}
            if os.path.isdir(full):
                with os.scandir(full) as entries:
                    names = {e.name: is_linked or e.is_symlink() for e in entries if e.is_file()}
            self._folder_names[folder] = names
        return self._folder_names[folder]

    def _real_path(self, path: str) -> str | None:
        """Return the real path (links resolved) relative to the root; None if outside of it."""
        real = os.path.realpath(os.path.join(self.folder, path))
        if os.path.commonpath([self._real_folder, real]) != self._real_folder:
            return None
        return Path(os.path.relpath(real, self._real_folder)).as_posix()

    def _is_duplicate_link(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if not self._list_names(folder)[name]:
            return False
        real = self._real_path(path)
        return real is not None and real != path and nfc(real) not in self.excluded

    def _refuse_outside(self, path: str, location: str) -> None:
        if self._real_path(path) is None:
            raise ValueError(
                f"{location}: a link leads out of the data root, to "
                f"{os.path.realpath(os.path.join(self.folder, path))}; "
                "set data.follow_links=true to allow it"
            )


def resolve_paths_and_drop_missing(
    cells: TextTable, paths: Sequence[str], root: DataRoot, findings: Findings = None
) -> list[str]:
    """Drop the rows of a table whose recording is excluded or missing, and return its paths.

    Args:
        cells: The table; it is changed.
        paths: Path of each row, as in the table.
        root: The data root.
        findings: List for missing recordings; with None they are an error.

    Returns:
        Path of each remaining row, as it is spelt on disk.

    Raises:
        ValueError: With file and row, see ``DataRoot.find_table_paths_on_disk``.
    """
    resolved = root.find_table_paths_on_disk(paths, cells.location, findings)
    if None in resolved:
        cells.keep_rows(np.array([path is not None for path in resolved]))
    return [path for path in resolved if path is not None]
