"""``data=selections``: recordings in which somebody has marked what is heard, and when."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from birdmix.audio.listing import find_recordings
from birdmix.files import walk
from birdmix.labels import Labels
from birdmix.recordings.annotations import Annotation, holds_annotations, read_annotations
from birdmix.recordings.arrow import Event, Span
from birdmix.recordings.cells import Cells
from birdmix.recordings.columns import datetime_of, groups_of, split_labels
from birdmix.recordings.ends import Ends
from birdmix.recordings.findings import Findings
from birdmix.recordings.paths import Root, present
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean

_SUFFIXES = (".txt", ".tsv", ".csv")

#: Annotations by recording.
_ByPath = dict[str, list[Annotation]]


def read_selections(settings: DataSettings, root: Root, findings: Findings = None) -> DataSource:
    """Read recordings with their annotations.

    Each recording has a file of them beside it, or anywhere below the root under its name; or one
    ``data.table`` tells of all. An empty file says that nothing is to be heard; a recording
    without one says nothing and is left out.
    """
    if settings.table is not None:
        found = _of_table(Path(settings.table), settings, root, findings)
    else:
        wanted = root.recordings(findings)
        found = _of_files(settings, root, set(wanted))
    spans = _looked_at(settings.annotated, found, root, findings)
    if not found:
        raise ValueError(
            f"data.root={root.folder}: no recording has a file of annotations, such as "
            "NAME.selections.txt or NAME.txt beside NAME.wav"
        )
    if settings.table is None:
        _warn_of_silent([path for path in wanted if path not in found])
    codes = _codes_of(settings.label_map, (a.name for each in found.values() for a in each))
    if not any(codes.values()):
        raise ValueError(f"data.root={root.folder}: no annotation has a label")
    ends = Ends(root.folder, findings)
    for path, annotations in found.items():
        for a in annotations:
            ends.check(path, a.start, a.end, a.where)
    paths = sorted(found)
    recordings = Recordings.build(
        root.folder,
        _labels(codes),
        path=paths,
        events=[
            [Event(a.start, a.end, code) for a in found[path] for code in codes[a.name]]
            for path in paths
        ],
        annotated=[spans.get(path, []) if spans is not None else None for path in paths],
        group=groups_of(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[datetime_of(path) for path in paths],
    )
    return DataSource(recordings)


def _of_table(table: Path, settings: DataSettings, root: Root, findings: Findings) -> _ByPath:
    annotations = read_annotations(table, settings.label_column)
    if not all(a.path for a in annotations):
        raise ValueError(f"{table}: it does not say which recordings it is of; add a column 'path'")
    paths = root.check([a.path for a in annotations], lambda row: annotations[row].where, findings)
    found: _ByPath = defaultdict(list)
    for path, annotation in zip(paths, annotations, strict=True):
        if path is not None:
            found[path].append(annotation)
    return dict(found)


def _of_files(settings: DataSettings, root: Root, wanted: set[str]) -> _ByPath:
    """Find the annotations of each recording that is wanted, by the names of the files."""
    names = _Names(find_recordings(root.folder))
    if not names.paths:
        raise ValueError(f"data.root={root.folder}: no recordings here (wav, flac, ogg, mp3, ...)")
    found: _ByPath = {}
    astray = []
    named = (settings.annotated, settings.label_map, settings.exclude)
    ours = {Path(name).resolve() for name in named if name is not None}
    for relative in sorted(walk(root.folder)):
        file = root.folder / relative
        if file.suffix.lower() not in _SUFFIXES or file.resolve() in ours:
            continue
        own = names.of_file(relative)
        if not holds_annotations(file):
            if own is not None:
                warnings.warn(f"{file}: named like {own}, but no annotations", stacklevel=2)
            continue
        annotations = read_annotations(file, settings.label_column)
        if own is not None:
            found.setdefault(own, [])
        elif not any(a.path for a in annotations):
            astray.append(relative)
        several = len({annotation.path for annotation in annotations}) > 1
        for annotation in annotations:
            path = names.of_path(annotation, own, alone=not several)
            if path is not None:
                found.setdefault(path, []).append(annotation)
    if astray:
        warnings.warn(f"no recording belongs to the annotations {_some(astray)}", stacklevel=2)
    return {path: annotations for path, annotations in found.items() if path in wanted}


class _Names:
    """Recordings by their names.

    Args:
        paths: All there are below a root, the excluded too: their tables are not for others.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            self.by_stem[Path(path).stem].append(path)
            self.by_name[Path(path).name].append(path)

    def of_file(self, file: str) -> str | None:
        """Return the recording a table is named after: beside it, or the only one of its name."""
        stem = Path(file).name
        while "." in stem:  # NAME.Table.1.selections.txt belongs to NAME
            stem = stem.rpartition(".")[0]
            paths = self.by_stem.get(stem) or self.by_name.get(stem) or []
            beside = [path for path in paths if Path(path).parent == Path(file).parent]
            if beside or len(paths) == 1:
                return (beside or paths)[0]
        return None

    def of_path(self, annotation: Annotation, own: str | None, *, alone: bool) -> str | None:
        """Return the recording that an annotation is of.

        Args:
            annotation: The annotation; it names one, or none.
            own: The recording that its table is named after, if there is one.
            alone: Whether the table tells of one recording: if there is none of the name it gives,
                it is its own, which was renamed.

        Raises:
            ValueError: With file and row, if it names none, or several.
        """
        told = annotation.path.replace("\\", "/")
        if not told or (own is not None and told == Path(own).name):
            return own
        if told in self.paths:
            return told
        paths = [] if "/" in told else self.by_name.get(told, [])
        if len(paths) == 1:
            return paths[0]
        if alone and own is not None:
            return own
        what = f"{len(paths)} recordings are named" if paths else "there is no recording"
        raise ValueError(f"{annotation.where}: {what} '{annotation.path}'")


def _warn_of_silent(silent: list[str]) -> None:
    if silent:
        warnings.warn(
            f"no annotations belong to {len(silent)} recordings, left out: {_some(silent)}",
            stacklevel=2,
        )


def _codes_of(label_map: str | None, names: Iterable[str]) -> dict[str, tuple[str | None, ...]]:
    """Return the label codes of each name; a blank name is something that nobody has named."""
    used = [name for name in dict.fromkeys(names) if name]
    codes: dict[str, tuple[str | None, ...]] = {"": (None,)}
    if label_map is None:
        return codes | {name: split_labels(name) for name in used}
    cells = Cells(Path(label_map), ("name", "code"))
    cells.refuse_repeated(cells.text("name"), what="the name stands")
    mapped = dict(zip(cells.text("name"), cells.text("code"), strict=True))
    for name in used:
        if name not in mapped:
            raise ValueError(
                f"{label_map}: no row for '{name}'{did_you_mean(name, mapped)}; a blank code says "
                "that it is none of the labels"
            )
        codes[name] = split_labels(mapped[name])
    return codes


def _labels(codes: dict[str, tuple[str | None, ...]]) -> Labels:
    names = {code: name for name, each in reversed(codes.items()) for code in each if code}
    alone = {code: name if len(codes[name]) == 1 else code for code, name in names.items()}
    return Labels(tuple(sorted(alone)), tuple(alone[code] for code in sorted(alone)))


def _looked_at(
    annotated: str, found: _ByPath, root: Root, findings: Findings
) -> dict[str, list[Span]] | None:
    """Return the spans of each recording that somebody has looked at, None for all of all.

    A recording that is listed as looked at, and in which nothing was marked, joins those found.
    """
    if annotated == "whole_file":
        return None
    if annotated == "events":
        return {path: [Span(a.start, a.end) for a in each] for path, each in found.items()}
    cells = Cells(Path(annotated), ("path", "start", "end"))
    spans: dict[str, list[Span]] = defaultdict(list)
    listed = present(cells, cells.text("path"), root, findings)
    starts, ends = cells.seconds("start"), cells.seconds("end")
    cells.refuse(~((starts >= 0) & (ends > starts)), "start and end need 0 <= start < end seconds")
    for path, start, end in zip(listed, starts.tolist(), ends.tolist(), strict=True):
        spans[path].append(Span(start, end))
        found.setdefault(path, [])
    return spans


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
