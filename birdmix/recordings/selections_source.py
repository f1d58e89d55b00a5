"""``data=selections``: recordings with annotated events, from annotation files or one table."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from birdmix.audio.find_recordings import find_recordings
from birdmix.competitions import NO_CALL
from birdmix.files import walk_files
from birdmix.labels import Labels
from birdmix.messages import did_you_mean
from birdmix.recordings.annotation_files import Annotation, is_annotation_file, read_annotations
from birdmix.recordings.annotation_matching import RecordingMatcher
from birdmix.recordings.data_findings import Finding, Findings, add_finding_or_raise
from birdmix.recordings.data_root import DataRoot, resolve_paths_and_drop_missing
from birdmix.recordings.metadata import assign_groups, parse_start_time_from_name, split_label_text
from birdmix.recordings.recording_lengths import TOLERANCE_SECONDS, RecordingLengths
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table_schema import Event, Span
from birdmix.recordings.text_table import TextTable

_SUFFIXES = (".txt", ".tsv", ".csv")

#: Annotations by the path of their recording.
_AnnotationsByPath = dict[str, list[Annotation]]


def read_annotated_recordings(
    settings: DataSettings, root: DataRoot, findings: Findings = None
) -> SourceRecordings:
    """Read recordings with their annotations.

    Each recording has an annotation file of its name in the same folder, or anywhere below the
    root; or the table ``data.table`` has the annotations of all. An empty file marks a recording
    without events; a recording without a file is left out.

    Args:
        settings: The data settings.
        root: The data root.
        findings: List for missing recordings and for events beyond an end; with None the first is
            an error.

    Raises:
        ValueError: With file and row, if annotations are wrong or there are none.
    """
    if settings.table is not None:
        by_path = _read_table(Path(settings.table), settings, root, findings)
    else:
        listed = root.list_recordings(findings)
        by_path = _read_files(settings, root, set(listed), findings)
    _clip_at_ends(by_path, RecordingLengths(root.folder, findings))
    spans = _read_annotated_spans(settings.annotated, by_path, root, findings)
    if not by_path:
        raise ValueError(
            f"data.root={root.folder}: no recording has an annotation file, such as "
            "NAME.selections.txt or NAME.txt beside NAME.wav"
        )
    if settings.table is None:
        _warn_about_unannotated([path for path in listed if path not in by_path])
    names = (a.name for annotations in by_path.values() for a in annotations)
    codes = _map_names(settings.label_map, names)
    if not any(codes.values()):
        raise ValueError(f"data.root={root.folder}: no annotation has a label")
    paths = sorted(by_path)
    recordings = Recordings.build(
        root.folder,
        _build_labels(codes),
        path=paths,
        events=[
            [Event(a.start, a.end, code) for a in by_path[path] for code in codes[a.name]]
            for path in paths
        ],
        annotated=[spans.get(path, []) if spans is not None else None for path in paths],
        group=assign_groups(paths, {}, settings.group_by, settings.group_pattern),
        datetime=[parse_start_time_from_name(path) for path in paths],
    )
    return SourceRecordings(recordings)


def _read_table(
    table: Path, settings: DataSettings, root: DataRoot, findings: Findings
) -> _AnnotationsByPath:
    annotations = read_annotations(table, settings.label_column)
    if not all(a.path for a in annotations):
        raise ValueError(f"{table}: rows without a recording; add a column 'path' and fill it in")
    if any(a.is_foreign for a in annotations):
        included = set(root.list_recordings(findings))
        matcher = RecordingMatcher(root.folder, find_recordings(root.folder))
        return _assign_to_recordings(annotations, matcher, None, included, findings)
    paths = root.find_table_paths_on_disk(
        [a.path for a in annotations], lambda row: annotations[row].location, findings
    )
    by_path: _AnnotationsByPath = defaultdict(list)
    for path, annotation in zip(paths, annotations, strict=True):
        if path is not None:
            by_path[path].append(annotation)
    return dict(by_path)


def _read_files(
    settings: DataSettings, root: DataRoot, included: set[str], findings: Findings
) -> _AnnotationsByPath:
    """Read the annotation files below the root, and assign them to the included recordings."""
    matcher = RecordingMatcher(root.folder, find_recordings(root.folder))
    if not matcher.paths:
        raise ValueError(
            f"data.root={root.folder}: no recordings in this folder (wav, flac, ogg, mp3, ...)"
        )
    by_path: _AnnotationsByPath = {}
    unmatched = []
    settings_files = (settings.annotated, settings.label_map, settings.exclude)
    ignored = {Path(name).resolve() for name in settings_files if name is not None}
    for relative in sorted(walk_files(root.folder)):
        file = root.folder / relative
        if file.suffix.lower() not in _SUFFIXES or file.resolve() in ignored:
            continue
        recording = matcher.match_annotation_file(relative)
        if not is_annotation_file(file):
            if recording is not None:
                warnings.warn(
                    f"{file}: has the name of {recording}, but is not an annotation file",
                    stacklevel=2,
                )
            continue
        annotations = read_annotations(file, settings.label_column)
        if recording is None and not any(a.path for a in annotations):
            unmatched.append(relative)
            continue
        if recording in included and not annotations:
            by_path.setdefault(recording, [])
        assigned = _assign_to_recordings(annotations, matcher, recording, included, findings)
        for path, additional in assigned.items():
            by_path.setdefault(path, []).extend(additional)
    if unmatched:
        warnings.warn(
            f"no recording belongs to the annotations {_first_names(unmatched)}",
            stacklevel=2,
        )
    return by_path


def _assign_to_recordings(
    annotations: Iterable[Annotation],
    matcher: RecordingMatcher,
    file_recording: str | None,
    included: set[str],
    findings: Findings,
) -> _AnnotationsByPath:
    """Assign the annotations of a file to the included recordings.

    Args:
        annotations: The annotations of the file.
        matcher: Matches them to recordings.
        file_recording: The recording that the file is named after, if there is one.
        included: Paths of the recordings that are not excluded.
        findings: List for missing recordings; with None they are an error.

    Raises:
        ValueError: If a recording is missing and findings are not collected.
    """
    by_path: _AnnotationsByPath = {}
    missing: set[str] = set()
    for annotation in annotations:
        path = matcher.match_annotation(annotation, file_recording)
        if path in included:
            by_path.setdefault(path, []).append(annotation)
        elif path is None and annotation.path not in missing:
            missing.add(annotation.path)
            add_finding_or_raise(
                findings,
                Finding(annotation.path, "missing", f"listed in {annotation.location}"),
                f"{annotation.location}: no recording '{annotation.path}' below "
                f"{matcher.root}; add it, correct its name or remove its rows",
            )
    return by_path


def _clip_at_ends(by_path: _AnnotationsByPath, lengths: RecordingLengths) -> None:
    """Clip annotations that may exceed the end of their recording, with a warning; check others."""
    clipped = []
    for path, annotations in by_path.items():
        seconds = lengths.seconds(path)
        for at, annotation in enumerate(annotations):
            start, end = annotation.start, annotation.end
            if annotation.may_overrun and start < seconds < end - TOLERANCE_SECONDS:
                annotations[at] = annotation._replace(end=seconds)
                clipped.append(annotation.location)
            else:
                lengths.check_span(path, start, end, annotation.location)
    if clipped:
        warnings.warn(
            f"{len(clipped)} selections exceed the end of their recording and are clipped "
            f"there: {_first_names(clipped)}",
            stacklevel=3,
        )


def _warn_about_unannotated(paths: list[str]) -> None:
    if paths:
        warnings.warn(
            f"{len(paths)} recordings without annotations are left out: {_first_names(paths)}",
            stacklevel=2,
        )


def _map_names(label_map: str | None, names: Iterable[str]) -> dict[str, tuple[str | None, ...]]:
    """Return the label codes of each annotated name.

    A blank name is an event without a label, code None. ``nocall`` has no codes: BirdNET writes a
    row of it for a recording without detections.
    """
    used = [name for name in dict.fromkeys(names) if name and name != NO_CALL]
    codes: dict[str, tuple[str | None, ...]] = {"": (None,), NO_CALL: ()}
    if label_map is None:
        return codes | {name: split_label_text(name) for name in used}
    cells = TextTable(Path(label_map), ("name", "code"))
    cells.raise_if_any_repeated(cells.text_column("name"), problem="the same name occurs")
    mapped = dict(zip(cells.text_column("name"), cells.text_column("code"), strict=True))
    for name in used:
        if name not in mapped:
            raise ValueError(
                f"{label_map}: no row for '{name}'{did_you_mean(name, mapped)}; leave its code "
                "blank if it is not one of the labels"
            )
        codes[name] = split_label_text(mapped[name])
    return codes


def _build_labels(codes: dict[str, tuple[str | None, ...]]) -> Labels:
    """Return the label set; a code's display name is the annotated name that maps to it alone."""
    names = {code: name for name, each in reversed(codes.items()) for code in each if code}
    display_names = {code: name if len(codes[name]) == 1 else code for code, name in names.items()}
    ordered = tuple(sorted(display_names))
    return Labels(ordered, tuple(display_names[code] for code in ordered))


def _read_annotated_spans(
    annotated: str, by_path: _AnnotationsByPath, root: DataRoot, findings: Findings
) -> dict[str, list[Span]] | None:
    """Return the annotated spans of each recording; None if all recordings are fully annotated.

    Recordings that the table of spans lists without any event are added to ``by_path``.
    """
    if annotated == "whole_file":
        return None
    if annotated == "events":
        return {
            path: [Span(a.start, a.end) for a in annotations]
            for path, annotations in by_path.items()
        }
    cells = TextTable(Path(annotated), ("path", "start", "end"))
    spans: dict[str, list[Span]] = defaultdict(list)
    paths = resolve_paths_and_drop_missing(cells, cells.text_column("path"), root, findings)
    starts, ends = cells.seconds_column("start"), cells.seconds_column("end")
    cells.raise_if_any_wrong(
        ~((starts >= 0) & (ends > starts)), "start and end need 0 <= start < end seconds"
    )
    for path, start, end in zip(paths, starts.tolist(), ends.tolist(), strict=True):
        spans[path].append(Span(start, end))
        by_path.setdefault(path, [])
    return spans


def _first_names(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
