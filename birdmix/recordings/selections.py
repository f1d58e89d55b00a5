"""``data=selections``: recordings in which somebody has marked what is heard, and when."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from birdmix.audio.sound_file import AudioError, probe
from birdmix.labels import Labels
from birdmix.recordings.annotations import Annotation, is_annotation_file, read_annotations
from birdmix.recordings.arrow import Event, Span
from birdmix.recordings.cells import Cells
from birdmix.recordings.columns import datetime_of, groups_of
from birdmix.recordings.paths import Missing, Root, present
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.suggest import did_you_mean

#: How far beyond a recording's end an event may reach: programs round, and encoders pad.
TOLERANCE_SECONDS = 0.1

_SUFFIXES = (".txt", ".tsv", ".csv")

#: Annotations by recording.
_ByPath = dict[str, list[Annotation]]


def read_selections(
    settings: DataSettings, root: Root, missing: Missing | None = None
) -> DataSource:
    """Read recordings with their annotations.

    Each recording has a file of them beside it, or anywhere below the root under its name; or one
    ``data.table`` tells of all. An empty file says that nothing is to be heard; a recording
    without one says nothing and is left out.
    """
    if settings.table is not None:
        found = _of_table(Path(settings.table), settings, root, missing)
    else:
        found = _of_files(settings, root)
    if not found:
        raise ValueError(
            f"data.root={root.folder}: no recording has a file of annotations, such as "
            "NAME.selections.txt or NAME.txt beside NAME.wav"
        )
    spans = _looked_at(settings.annotated, found, root, missing)
    codes = _code_of(settings.label_map, (a.name for each in found.values() for a in each))
    if not any(codes.values()):
        raise ValueError(f"data.root={root.folder}: no annotation has a label")
    paths = sorted(found)
    for path in paths:
        _check_ends(root.folder, path, found[path])
    recordings = Recordings.build(
        root.folder,
        _labels(codes),
        path=paths,
        events=[[Event(a.start, a.end, codes[a.name]) for a in found[path]] for path in paths],
        annotated=[spans.get(path, []) if spans is not None else None for path in paths],
        group=groups_of(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[datetime_of(path) for path in paths],
    )
    return DataSource(recordings)


def _of_table(table: Path, settings: DataSettings, root: Root, missing: Missing | None) -> _ByPath:
    annotations = read_annotations(table, settings.label_column)
    paths = root.check([a.path for a in annotations], lambda row: annotations[row].where, missing)
    found: _ByPath = defaultdict(list)
    for path, annotation in zip(paths, annotations, strict=True):
        if path is not None:
            found[path].append(annotation)
    return found


def _of_files(settings: DataSettings, root: Root) -> _ByPath:
    """Find the annotations of each recording, by the names of the files."""
    recordings = root.recordings()
    if not recordings:
        raise ValueError(f"data.root={root.folder}: no recordings here (wav, flac, ogg, mp3, ...)")
    owners: dict[str, list[str]] = defaultdict(list)
    for path in recordings:
        owners[Path(path).stem].append(path)
    found: _ByPath = {}
    astray = []
    named = (settings.annotated, settings.label_map, settings.exclude)
    ours = {Path(name).resolve() for name in named if name is not None}
    for file in sorted(root.folder.rglob("*")):
        if file.suffix.lower() not in _SUFFIXES or file.resolve() in ours:
            continue
        if not is_annotation_file(file):
            continue
        annotations = read_annotations(file, settings.label_column)
        own = _owner(file, root.folder, owners)
        for annotation in annotations:
            if annotation.path:
                others = owners.get(Path(annotation.path).stem, [])
                if len(others) != 1:
                    raise ValueError(f"{annotation.where}: no recording '{annotation.path}'")
                found.setdefault(others[0], []).append(annotation)
            elif own:
                found.setdefault(own, []).append(annotation)
        if own:
            found.setdefault(own, [])
        elif not any(a.path for a in annotations):
            astray.append(file.name)
    if astray:
        warnings.warn(f"no recording belongs to the annotations {_some(astray)}", stacklevel=2)
    silent = [path for path in recordings if path not in found]
    if silent:
        warnings.warn(
            f"no annotations belong to {len(silent)} recordings, left out: {_some(silent)}",
            stacklevel=2,
        )
    return found


def _owner(file: Path, root: Path, owners: dict[str, list[str]]) -> str | None:
    """Return the recording that a table is named after: beside it, or the only one of its name."""
    stem = file.name
    while "." in stem:  # NAME.Table.1.selections.txt belongs to NAME
        stem = stem.rpartition(".")[0]
        paths = owners.get(stem, [])
        beside = [path for path in paths if (root / path).parent == file.parent]
        if beside or len(paths) == 1:
            return (beside or paths)[0]
    return None


def _check_ends(root: Path, path: str, annotations: list[Annotation]) -> None:
    """Refuse events beyond a recording's end: they belong to another, or it is not whole."""
    try:
        info = probe(root / path)
    except AudioError:
        return  # told when it is opened
    if info.num_frames is None:
        return
    seconds = info.num_frames / info.sample_rate
    for annotation in annotations:
        if annotation.end > seconds + TOLERANCE_SECONDS:
            raise ValueError(
                f"{annotation.where}: the event from {annotation.start:g} to {annotation.end:g} s "
                f"reaches beyond the end of {path} ({seconds:.2f} s); correct its times, or look "
                "whether the recording is whole and its own"
            )


def _code_of(label_map: str | None, names: Iterable[str]) -> dict[str, str | None]:
    """Return the label code of each name; None where nobody has named what is heard."""
    used = dict.fromkeys(names)
    if label_map is None:
        return {name: name or None for name in used}
    cells = Cells(Path(label_map), ("name", "code"))
    codes = dict(zip(cells.text("name"), cells.text("code"), strict=True))
    codes.setdefault("", "")
    for name in used:
        if name not in codes:
            raise ValueError(
                f"{label_map}: no row for '{name}'{did_you_mean(name, codes)}; a blank code says "
                "that it is none of the labels"
            )
    return {name: codes[name] or None for name in used}


def _labels(codes: dict[str, str | None]) -> Labels:
    names = {code: name for name, code in reversed(codes.items()) if code}
    return Labels(tuple(sorted(names)), tuple(names[code] for code in sorted(names)))


def _looked_at(
    annotated: str, found: _ByPath, root: Root, missing: Missing | None
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
    listed = present(cells, cells.text("path"), root, missing)
    starts, ends = cells.seconds("start"), cells.seconds("end")
    cells.refuse(~((starts >= 0) & (ends > starts)), "start and end need 0 <= start < end seconds")
    for path, start, end in zip(listed, starts.tolist(), ends.tolist(), strict=True):
        spans[path].append(Span(start, end))
        found.setdefault(path, [])
    return spans


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
