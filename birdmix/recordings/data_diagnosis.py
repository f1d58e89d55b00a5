"""``birdmix doctor``: problems of a data set's audio, tables, labels and split.

Shapes: C classes.
"""

import difflib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.duplicates import find_duplicates, has_copy_name
from birdmix.audio.examine import Examination, examine_audio_file
from birdmix.recordings.data_findings import Finding
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.folds import labels_in_few_groups
from birdmix.recordings.recordings_table import Recordings, SourceRecordings
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_exclude_list, read_source
from birdmix.threads import OnItemDone, map_in_threads

#: Problems that make a recording useless for training.
_USELESS = ("empty", "unreadable", "silent", "missing")

#: Two labels are reported as one misspelt label from this similarity (of ``difflib``, in [0, 1])
#: and this length in characters on.
_MIN_SIMILARITY, _MIN_LENGTH = 0.92, 8


@dataclass(frozen=True)
class Diagnosis:
    """Results of the checks.

    Attributes:
        findings: All problems, sorted.
        num_recordings: Number of recordings decoded.
        seconds: Duration of the audio decoded.
        exclude: Paths of recordings to exclude: those without usable audio, and all but one of
            duplicates.
    """

    findings: list[Finding]
    num_recordings: int
    seconds: float
    exclude: list[str]


def examine_folder(folder: Path, on_progress: OnItemDone | None = None) -> Diagnosis:
    """Check the audio of all recordings below a folder.

    Args:
        folder: The folder.
        on_progress: Called as recordings are decoded.

    Raises:
        ValueError: If the folder does not exist or holds no recordings.
    """
    root = DataRoot(folder, follow_links=True)
    findings: list[Finding] = []
    paths = root.list_recordings(findings)
    if not paths and not findings:
        raise ValueError(
            f"{folder}: no recordings in this folder (wav, flac, ogg, opus, mp3, aiff, ...)"
        )
    return _examine_audio(root.folder, paths, findings, None, on_progress)


def examine_data(settings: DataSettings, on_progress: OnItemDone | None = None) -> Diagnosis:
    """Check the tables, labels, split and audio of a data set, read as in training.

    Args:
        settings: The data settings.
        on_progress: Called as recordings are decoded.

    Raises:
        ValueError: If the data set cannot be read.
    """
    findings: list[Finding] = []
    source = read_source(settings, findings)
    findings += _find_unlisted_files(source, settings)
    findings += _check_labels(source.recordings, settings)
    findings += _find_leaks(source.recordings)
    paths = list(dict.fromkeys(path for table in _list_tables(source) for path in table.paths))
    root = source.recordings.root
    return _examine_audio(root, paths, findings, source.recordings, on_progress)


def _examine_audio(
    root: Path,
    paths: list[str],
    findings: list[Finding],
    recordings: Recordings | None,
    on_progress: OnItemDone | None,
) -> Diagnosis:
    """Decode all recordings, and add the problems of their audio to the findings."""
    examinations = dict(
        map_in_threads(lambda path: examine_audio_file(root / path), paths, on_progress)
    )
    for path, examination in examinations.items():
        findings += [Finding(path, name, detail) for name, detail in examination.problems]
    duplicates = list(_report_duplicates(examinations, recordings))
    useless = (f.path for f in findings if f.problem in _USELESS)
    return Diagnosis(
        findings=sorted([*findings, *duplicates]),
        num_recordings=len(paths),
        seconds=sum(examination.seconds for examination in examinations.values()),
        exclude=sorted({*useless, *(f.path for f in duplicates)}),
    )


def _report_duplicates(
    examinations: Mapping[str, Examination], recordings: Recordings | None
) -> Iterator[Finding]:
    """Yield recordings with the same audio as another, and in which metadata the two differ.

    The original is the one with the fewest problems, then the one in a lossless codec, then the one
    whose name is not that of a copy.
    """
    metadata = {} if recordings is None else _metadata_by_path(recordings)

    def rank(path: str) -> tuple:
        problems, info = examinations[path].problems, examinations[path].info
        return len(problems), info is not None and info.is_lossy, has_copy_name(path), path

    for group in find_duplicates(examinations):
        original, *copies = sorted(group, key=rank)
        for copy in copies:
            detail = f"same audio as {original}"
            if original in metadata and copy in metadata:
                names = ("labels", "group", "split")
                values = zip(names, metadata[original], metadata[copy], strict=True)
                different = [name for name, one, other in values if one != other]
                detail += f", but different {' and '.join(different)}" if different else ""
            yield Finding(copy, "duplicate", detail)


def _metadata_by_path(recordings: Recordings) -> dict[str, tuple]:
    """Return labels, group and split of each recording."""
    codes = map(recordings.label_codes_of_row, range(len(recordings)))
    splits = recordings.table["split"].to_pylist()
    columns = zip(map(frozenset, codes), recordings.groups, splits, strict=True)
    return dict(zip(recordings.paths, columns, strict=True))


def _find_unlisted_files(source: SourceRecordings, settings: DataSettings) -> Iterator[Finding]:
    """Yield sound files in the table's folders that are not in the table, or cannot be read."""
    if settings.source not in ("csv", "birdclef", "demo"):
        return
    listed = {path for table in _list_tables(source) for path in table.paths}
    folders = {path.rpartition("/")[0] for path in listed}
    root = DataRoot(source.recordings.root, settings.follow_links, read_exclude_list(settings))
    root_findings: list[Finding] = []
    for path in root.list_recordings(root_findings):
        if path not in listed and path.rpartition("/")[0] in folders:
            yield Finding(path, "unlisted", "in a folder of the table, but not in the table")
    for finding in root_findings:
        if finding.problem == "unsupported" and finding.path.rpartition("/")[0] in folders:
            yield finding


def _check_labels(recordings: Recordings, settings: DataSettings) -> Iterator[Finding]:
    """Yield labels with similar spellings, and labels too rare to be split into folds."""
    codes = recordings.labels.codes
    for one, other in _find_similar_labels(codes):
        yield Finding("", "label", f"'{one}' and '{other}': the same label spelt differently?")
    counts = recordings.label_target_sums()
    num_folds = settings.num_folds
    for column in np.flatnonzero(counts == 0):
        yield Finding("", "no-recordings", f"'{codes[column]}' has no recordings")
    rare = {codes[column] for column in np.flatnonzero((counts > 0) & (counts < num_folds))}
    for code in sorted(rare):
        count = counts[recordings.labels.column(code)]
        yield Finding(
            "",
            "few-recordings",
            f"'{code}': {count} recordings, fewer than data.num_folds={num_folds}",
        )
    for code in labels_in_few_groups(recordings, num_folds):
        if code not in rare:
            yield Finding(
                "", "few-groups", f"'{code}': in fewer groups than data.num_folds={num_folds}"
            )


def _find_similar_labels(codes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels that differ in case, punctuation or a few letters, but not in digits.

    Letters are compared only between labels with the same first or last three letters.
    """
    plain = {code: re.sub(r"[\W_]+", "", code).casefold() for code in codes}
    candidates: dict[tuple, list[str]] = defaultdict(list)
    for code, name in sorted(plain.items()):
        candidates[(name,)].append(code)
        if len(name) >= _MIN_LENGTH:
            candidates[name[:3], _keep_digits(code)].append(code)
            candidates[_keep_digits(code), name[-3:]].append(code)
    pairs = {pair for group in candidates.values() for pair in itertools.combinations(group, 2)}
    for one, other in sorted(pairs):
        a, b = plain[one], plain[other]
        matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
        if a == b or (
            matcher.real_quick_ratio() >= _MIN_SIMILARITY
            and matcher.quick_ratio() >= _MIN_SIMILARITY
            and matcher.ratio() >= _MIN_SIMILARITY
        ):
            yield one, other


def _keep_digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def _find_leaks(recordings: Recordings) -> Iterator[Finding]:
    """Yield groups that are in several splits of the column ``split``."""
    counts_by_group: dict[str, Counter] = defaultdict(Counter)
    splits = recordings.table["split"].to_pylist()
    for group, split in zip(recordings.groups, splits, strict=True):
        counts_by_group[group][split] += 1
    for group, counts in counts_by_group.items():
        if len(counts) > 1:
            numbers = ", ".join(f"{number} {split}" for split, number in counts.items())
            yield Finding("", "leak", f"group '{group}' is in several splits: {numbers}")


def _list_tables(source: SourceRecordings) -> list[Recordings]:
    return [source.recordings, *([source.soundscapes] if source.soundscapes is not None else [])]
