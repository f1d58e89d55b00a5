"""``data=selections``: recordings in which somebody has marked what is heard, and when."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from birdmix.audio.listing import find_recordings
from birdmix.competitions import NO_CALL
from birdmix.files import walk
from birdmix.labels import Labels
from birdmix.recordings.annotations import Annotation, holds_annotations, read_annotations
from birdmix.recordings.arrow import Event, Span
from birdmix.recordings.cells import Cells
from birdmix.recordings.columns import datetime_of, groups_of, split_labels
from birdmix.recordings.ends import TOLERANCE_SECONDS, Ends
from birdmix.recordings.findings import Finding, Findings, tell
from birdmix.recordings.matching import RecordingNames
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
        found = _of_files(settings, root, set(wanted), findings)
    _clip_at_ends(found, Ends(root.folder, findings))
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
    if any(a.is_foreign for a in annotations):
        wanted = set(root.recordings(findings))
        names = RecordingNames(root.folder, find_recordings(root.folder))
        return _by_recording(annotations, names, None, wanted, findings)
    paths = root.check([a.path for a in annotations], lambda row: annotations[row].where, findings)
    found: _ByPath = defaultdict(list)
    for path, annotation in zip(paths, annotations, strict=True):
        if path is not None:
            found[path].append(annotation)
    return dict(found)


def _of_files(settings: DataSettings, root: Root, wanted: set[str], findings: Findings) -> _ByPath:
    """Find the annotations of each recording that is wanted, by the names of the files."""
    names = RecordingNames(root.folder, find_recordings(root.folder))
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
        if own is None and not any(a.path for a in annotations):
            astray.append(relative)
            continue
        if own in wanted and not annotations:
            found.setdefault(own, [])
        of_file = _by_recording(annotations, names, own, wanted, findings)
        for path, each in of_file.items():
            found.setdefault(path, []).extend(each)
    if astray:
        warnings.warn(f"no recording belongs to the annotations {_some(astray)}", stacklevel=2)
    return found


def _by_recording(
    annotations: Iterable[Annotation],
    names: RecordingNames,
    own: str | None,
    wanted: set[str],
    findings: Findings,
) -> _ByPath:
    """Sort the annotations of a table by recordings that are wanted.

    Raises:
        ValueError: If one is of a recording that is not there and nobody collects findings.
    """
    found: _ByPath = {}
    missing: set[str] = set()
    for annotation in annotations:
        path = names.of_annotation(annotation, own)
        if path in wanted:
            found.setdefault(path, []).append(annotation)
        elif path is None and annotation.path not in missing:
            missing.add(annotation.path)
            tell(
                findings,
                Finding(annotation.path, "missing", f"named by {annotation.where}"),
                f"{annotation.where}: there is no recording '{annotation.path}' below "
                f"{names.root}; add it, correct its name or remove its rows",
            )
    return found


def _clip_at_ends(found: _ByPath, ends: Ends) -> None:
    """Clip what may reach beyond the end of its recording and does, and name it; check the rest."""
    clipped = []
    for path, annotations in found.items():
        seconds = ends.seconds(path)
        for at, each in enumerate(annotations):
            if each.may_overrun and each.start < seconds < each.end - TOLERANCE_SECONDS:
                annotations[at] = each._replace(end=seconds)
                clipped.append(each.where)
            else:
                ends.check(path, each.start, each.end, each.where)
    if clipped:
        warnings.warn(
            f"{len(clipped)} selections reach beyond the end of their recording and are clipped "
            f"there: {_some(clipped)}",
            stacklevel=3,
        )


def _warn_of_silent(silent: list[str]) -> None:
    if silent:
        warnings.warn(
            f"no annotations belong to {len(silent)} recordings, left out: {_some(silent)}",
            stacklevel=2,
        )


def _codes_of(label_map: str | None, names: Iterable[str]) -> dict[str, tuple[str | None, ...]]:
    """Return the label codes of each name.

    A blank name is something that nobody has named. ``nocall`` has none: BirdNET writes a row of it
    for a recording in which it finds nothing.
    """
    used = [name for name in dict.fromkeys(names) if name and name != NO_CALL]
    codes: dict[str, tuple[str | None, ...]] = {"": (None,), NO_CALL: ()}
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
