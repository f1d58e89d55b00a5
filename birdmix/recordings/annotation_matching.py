"""Match annotations to recordings, by the names of annotation files and the paths in them."""

import itertools
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from birdmix.recordings.annotation_files import Annotation, last_path_part
from birdmix.text import nfc, one_line, unescape_formula_in_path


class _PathMatch(NamedTuple):
    """An annotation's path that was matched to a recording.

    Attributes:
        parts: Parts of the annotation's path.
        num_common: How many of its last parts the recording's path has too.
        annotation: The first annotation with this path.
    """

    parts: list[str]
    num_common: int
    annotation: Annotation


class _RecordingsOfName:
    """Recordings of one file name, by the last parts of their paths.

    Recorders that start at the same time give their files the same names: so a search looks up as
    many keys as a path has parts, and compares no recordings.

    Args:
        paths: The recordings, relative to the root.
        root_parts: Parts of the root's own path, which may continue a match.
    """

    def __init__(self, paths: Sequence[str], root_parts: Sequence[str]) -> None:
        # As ordered sets; the second are those whose whole path is in the key.
        self._by_last_parts: dict[tuple[str, ...], tuple[dict[str, None], dict[str, None]]] = {}
        for path in paths:
            parts = _split_path(path)
            full = (*root_parts, *parts)
            for count in range(1, len(full) + 1):
                found = self._by_last_parts.setdefault(full[-count:], ({}, {}))
                found[0][path] = None
                if count >= len(parts):
                    found[1][path] = None

    def find_nearest(self, parts: Sequence[str]) -> tuple[int, Collection[str]]:
        """Return the recordings that share most of the last parts of a path, and how many.

        Those come first of whose path no part differs.
        """
        for count in range(len(parts), 0, -1):
            found = self._by_last_parts.get(tuple(parts[-count:]))
            if found is not None:
                return count, found[0] if count == len(parts) else found[1] or found[0]
        return 0, ()


class RecordingMatcher:
    """Finds the recording of an annotation file or of a single annotation.

    Names are compared as NFC and with line breaks replaced, since tables without quotes hold them
    in one line.

    Args:
        root: The data root.
        paths: All recordings below it. Excluded ones are included, so that their annotations do not
            go to another recording.
    """

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root = os.path.abspath(root)
        self.paths = paths
        self._root_parts = _split_path(Path(self.root).as_posix())
        self._by_path = {_normalize(path): path for path in paths}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._first_by_folder_and_stem: dict[tuple[str, str], str] = {}
        self._first_by_folder_and_name: dict[tuple[str, str], str] = {}
        self._recordings_of_name: dict[str, _RecordingsOfName] = {}
        self._matched: dict[tuple[str, str | None, bool], str | None] = {}
        self._first_matches: dict[str, _PathMatch] = {}
        for path in paths:
            parts = PurePosixPath(path)
            folder = _normalize(parts.parent.as_posix())
            stem, name = _normalize(parts.stem), _normalize(parts.name)
            self._by_stem[stem].append(path)
            self._by_name[name].append(path)
            self._first_by_folder_and_stem.setdefault((folder, stem), path)
            self._first_by_folder_and_name.setdefault((folder, name), path)

    def match_annotation_file(self, file: str) -> str | None:
        """Return the recording with the name of an annotation file.

        Args:
            file: Path of the annotation file, relative to the root.

        Returns:
            The recording in the same folder, or else the only one of this name; None if there is
            none.
        """
        stem, folder = _normalize(Path(file).name), _normalize(Path(file).parent.as_posix())
        while "." in stem:  # NAME.Table.1.selections.txt belongs to NAME
            stem = stem.rpartition(".")[0]
            if stem in self._by_stem:
                paths, siblings = self._by_stem[stem], self._first_by_folder_and_stem
            else:
                paths, siblings = self._by_name.get(stem, []), self._first_by_folder_and_name
            sibling = siblings.get((folder, stem))
            if sibling is not None or len(paths) == 1:
                return sibling or paths[0]
        return None

    def match_annotation(self, annotation: Annotation, file_recording: str | None) -> str | None:
        """Return the recording of an annotation, None if it is missing.

        A path on the annotator's machine is matched by its last part. Among several recordings of
        this name, the one that shares most of the path's last parts is chosen, then
        ``file_recording``.

        Args:
            annotation: The annotation; with an empty path it belongs to ``file_recording``.
            file_recording: The recording that its file is named after, if there is one.

        Raises:
            ValueError: With file and row, if the recording is not stated or ambiguous, or if two
                different paths match the same recording.
        """
        if not annotation.path:
            if file_recording is None:
                raise ValueError(f"{annotation.location}: no recording is named; fill in its path")
            return file_recording
        key = (annotation.path, file_recording, annotation.is_foreign)
        if key not in self._matched:
            self._matched[key] = self._match_path(annotation, file_recording)
        return self._matched[key]

    def _match_path(self, annotation: Annotation, file_recording: str | None) -> str | None:
        given = unescape_formula_in_path(annotation.path)
        own_name = None if file_recording is None else PurePosixPath(file_recording).name
        if own_name is not None and _normalize(given) == _normalize(own_name):
            return file_recording
        if os.path.isabs(given) and Path(os.path.normpath(given)).is_relative_to(self.root):
            given = Path(os.path.relpath(given, self.root)).as_posix()
            return self._by_path.get(_normalize(given))
        posix = given.replace("\\", "/")
        if not annotation.is_foreign:
            exact = self._by_path.get(_normalize(given)) or self._by_path.get(_normalize(posix))
            if exact is not None or "/" in posix:
                return exact
        parts = _split_path(posix)
        num_common, nearest = self._find_nearest(_normalize(last_path_part(posix)), parts)
        if len(nearest) > 1 and file_recording not in nearest:
            first, second = itertools.islice(nearest, 2)
            raise ValueError(
                f"{annotation.location}: {len(nearest)} recordings have the name "
                f"'{annotation.path}', {first} and {second}; give more of the path"
            )
        if not nearest:
            return None
        path = next(iter(nearest)) if len(nearest) == 1 else file_recording
        assert path is not None  # it is one of several
        self._check_unique(path, _PathMatch(parts, num_common, annotation))
        return path

    def _find_nearest(self, name: str, parts: Sequence[str]) -> tuple[int, Collection[str]]:
        """Return the recordings of a name that share most of a path's last parts, and how many."""
        paths = self._by_name.get(name, [])
        if not paths:
            return 0, ()
        if len(paths) == 1:
            return _count_common(parts, [*self._root_parts, *_split_path(paths[0])]), paths
        if name not in self._recordings_of_name:
            self._recordings_of_name[name] = _RecordingsOfName(paths, self._root_parts)
        return self._recordings_of_name[name].find_nearest(parts)

    def _check_unique(self, path: str, match: _PathMatch) -> None:
        """Refuse two paths of equally named recordings that both match the only existing one.

        Tables of two annotators may use different paths for it, if both match it equally well.
        """
        first = self._first_matches.setdefault(path, match)
        if len(match.parts) > len(first.parts):
            self._first_matches[path] = match
        num_common = _count_common(match.parts, first.parts)
        if num_common == min(len(match.parts), len(first.parts)):
            return
        files = [each.annotation.location.rpartition(", row ")[0] for each in (match, first)]
        if match.num_common != first.num_common or files[0] == files[1]:
            raise ValueError(
                f"{match.annotation.location}: '{match.annotation.path}' and "
                f"'{first.annotation.path}' ({first.annotation.location}) are two recordings, but "
                f"only {path} exists; add the other one, or remove its rows"
            )


def _normalize(name: str) -> str:
    return nfc(one_line(name))


def _split_path(path: str) -> list[str]:
    return [_normalize(part) for part in path.split("/") if part not in ("", ".")]


def _count_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many of the last parts of two paths are equal."""
    count = 0
    for left, right in zip(reversed(first), reversed(second), strict=False):
        if left != right:
            break
        count += 1
    return count
