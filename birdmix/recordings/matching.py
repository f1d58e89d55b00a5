"""Which recording a table of annotations is of, by the names of files and by the paths in it."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from birdmix.recordings.annotations import Annotation, base_name
from birdmix.text import nfc, one_line, restored_path


class _Claim(NamedTuple):
    """A recording, and the path by which a table named it.

    Attributes:
        parts: Of that path.
        tail: How many of its last parts the recording's path shares.
        annotation: The first that gave it.
    """

    parts: list[str]
    tail: int
    annotation: Annotation


class RecordingNames:
    """Recordings by their names.

    Names are compared as NFC, and in one line: tables that quote nothing hold them so.

    Args:
        root: The data root.
        paths: All recordings below it, the excluded too: their tables are not for others.
    """

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root = os.path.abspath(root)
        self.paths = paths
        self._root_parts = _parts(Path(self.root).as_posix())
        self._by_path = {_key(path): path for path in paths}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._found: dict[tuple[str, str | None, bool], str | None] = {}
        self._claims: dict[str, _Claim] = {}
        for path in paths:
            self._by_stem[_key(Path(path).stem)].append(path)
            self._by_name[_key(Path(path).name)].append(path)

    def of_file(self, file: str) -> str | None:
        """Return the recording a table is named after: beside it, or the only one of its name."""
        stem, folder = _key(Path(file).name), _key(Path(file).parent.as_posix())
        while "." in stem:  # NAME.Table.1.selections.txt belongs to NAME
            stem = stem.rpartition(".")[0]
            paths = self._by_stem.get(stem) or self._by_name.get(stem) or []
            beside = [path for path in paths if _key(Path(path).parent.as_posix()) == folder]
            if beside or len(paths) == 1:
                return (beside or paths)[0]
        return None

    def of_annotation(self, annotation: Annotation, own: str | None) -> str | None:
        """Return the recording that an annotation is of, None if that is not there.

        A path of the annotator's machine is the recording of its last part; among several, the one
        that shares most of its end, then the one that the table is named after.

        Args:
            annotation: The annotation; it names a recording, or none: then it is its table's.
            own: The recording that its table is named after, if there is one.

        Raises:
            ValueError: With file and row, if it names none or several, or if two paths name one.
        """
        if not annotation.path:
            if own is None:
                raise ValueError(f"{annotation.where}: it names no recording; fill in its path")
            return own
        key = (annotation.path, own, annotation.is_foreign)
        if key not in self._found:
            self._found[key] = self._find(annotation, own)
        return self._found[key]

    def _find(self, annotation: Annotation, own: str | None) -> str | None:
        told = restored_path(annotation.path)
        if own is not None and _key(told) == _key(PurePosixPath(own).name):
            return own
        if os.path.isabs(told) and Path(os.path.normpath(told)).is_relative_to(self.root):
            told = Path(os.path.relpath(told, self.root)).as_posix()
            return self._by_path.get(_key(told))
        posix = told.replace("\\", "/")
        named = self._by_name.get(_key(base_name(posix)), [])
        if not annotation.is_foreign:
            exact = self._by_path.get(_key(told)) or self._by_path.get(_key(posix))
            if exact is not None or "/" in posix:
                return exact
        parts = _parts(posix)
        fits = {path: self._fit(parts, _parts(path)) for path in named}
        best = max(fits.values(), default=(0, False))
        nearest = [path for path, fit in fits.items() if fit == best]
        if len(nearest) > 1 and own not in nearest:
            raise ValueError(
                f"{annotation.where}: {len(nearest)} recordings are named '{annotation.path}', "
                f"{nearest[0]} and {nearest[1]}; give more of its path"
            )
        if not nearest:
            return None
        path = nearest[0] if own is None or len(nearest) == 1 else own
        self._claim(path, _Claim(parts, best[0], annotation))
        return path

    def _fit(self, told: list[str], there: list[str]) -> tuple[int, bool]:
        """Return how many of the last parts of two paths are the same, and if none contradicts."""
        tail = _num_common(told, [*self._root_parts, *there])
        return tail, tail >= min(len(told), len(there))

    def _claim(self, path: str, claim: _Claim) -> None:
        """Refuse two recordings of one name that both are taken for the only one there is.

        Tables of two people may name it by different paths, if neither tells more of it.
        """
        first = self._claims.setdefault(path, claim)
        if len(claim.parts) > len(first.parts):
            self._claims[path] = claim
        common = _num_common(claim.parts, first.parts)
        if common == min(len(claim.parts), len(first.parts)):
            return
        files = [each.annotation.where.rpartition(", row ")[0] for each in (claim, first)]
        if claim.tail != first.tail or files[0] == files[1]:
            raise ValueError(
                f"{claim.annotation.where}: '{claim.annotation.path}' and "
                f"'{first.annotation.path}' ({first.annotation.where}) are two recordings, but "
                f"only {path} is there; add the other one, or remove its rows"
            )


def _key(name: str) -> str:
    return nfc(one_line(name))


def _parts(path: str) -> list[str]:
    return [_key(part) for part in path.split("/") if part not in ("", ".")]


def _num_common(one: list[str], other: list[str]) -> int:
    """Return how many of the last parts are the same in two paths."""
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count
