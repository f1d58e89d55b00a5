"""What is wrong with a data set: its sound, its tables, its labels, its split."""

import difflib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.audio.duplicates import find_duplicates, is_named_as_copy
from birdmix.audio.examine import Examination, examine
from birdmix.recordings.findings import Finding
from birdmix.recordings.folds import labels_in_few_groups
from birdmix.recordings.paths import Root
from birdmix.recordings.readers import excluded_of, read_source
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.threads import Progress, each

#: Problems of recordings from which nothing can be learned.
USELESS = ("empty", "unreadable", "silent", "missing")

#: Labels as similar as this are one label, misspelt, if they are as long as this.
_SIMILAR, _LONG = 0.92, 8


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        findings: All that is wrong.
        num_recordings: Recordings decoded.
        seconds: Of sound decoded.
        exclude: Recordings better left out: those without sound, and all but one of duplicates.
    """

    findings: list[Finding]
    num_recordings: int
    seconds: float
    exclude: list[str]


def examine_folder(folder: Path, on_progress: Progress | None = None) -> Diagnosis:
    """Decode all recordings below a folder.

    Raises:
        ValueError: If there is no such folder, or nothing in it.
    """
    root = Root(folder, follow_links=True)
    findings: list[Finding] = []
    paths = root.recordings(findings)
    if not paths and not findings:
        raise ValueError(f"{folder}: no recordings here (wav, flac, ogg, opus, mp3, aiff, ...)")
    return _diagnosis(root.folder, paths, findings, None, on_progress)


def examine_data(settings: DataSettings, on_progress: Progress | None = None) -> Diagnosis:
    """Read a data set as a run would, and decode all its recordings.

    Raises:
        ValueError: If it cannot be read at all.
    """
    findings: list[Finding] = []
    source = read_source(settings, findings)
    findings += _unlisted(source, settings)
    findings += _labels(source.recordings, settings)
    findings += _leaks(source.recordings)
    paths = list(dict.fromkeys(path for table in _tables(source) for path in table.paths))
    root = source.recordings.root
    return _diagnosis(root, paths, findings, source.recordings, on_progress)


def _diagnosis(
    root: Path,
    paths: list[str],
    findings: list[Finding],
    recordings: Recordings | None,
    on_progress: Progress | None,
) -> Diagnosis:
    examined = dict(each(lambda path: examine(root / path), paths, on_progress))
    for path, examination in examined.items():
        findings += [Finding(path, name, detail) for name, detail in examination.problems]
    duplicates = list(_duplicates(examined, recordings))
    useless = (f.path for f in findings if f.problem in USELESS)
    return Diagnosis(
        findings=sorted([*findings, *duplicates]),
        num_recordings=len(paths),
        seconds=sum(each.seconds for each in examined.values()),
        exclude=sorted({*useless, *(f.path for f in duplicates)}),
    )


def _duplicates(
    examined: Mapping[str, Examination], recordings: Recordings | None
) -> Iterator[Finding]:
    """Say which recordings hold the sound of another, and whether their table knows it.

    The original is the one without problems, in a lossless codec, whose name is not that of a copy.
    """
    known = {} if recordings is None else _by_path(recordings)

    def rank(path: str) -> tuple:
        problems, info = examined[path].problems, examined[path].info
        return len(problems), info is not None and info.is_lossy, is_named_as_copy(path), path

    for group in find_duplicates(examined):
        first, *others = sorted(group, key=rank)
        for other in others:
            detail = f"the sound of {first}"
            if first in known and other in known:
                names = ("labels", "group", "split")
                unlike = [
                    name
                    for name, one, two in zip(names, known[first], known[other], strict=True)
                    if one != two
                ]
                detail += f", with another {' and another '.join(unlike)}" if unlike else ""
            yield Finding(other, "duplicate", detail)


def _by_path(recordings: Recordings) -> dict[str, tuple]:
    codes = map(recordings.codes, range(len(recordings)))
    splits = recordings.table["split"].to_pylist()
    columns = zip(map(frozenset, codes), recordings.groups, splits, strict=True)
    return dict(zip(recordings.paths, columns, strict=True))


def _unlisted(source: DataSource, settings: DataSettings) -> Iterator[Finding]:
    """Name what lies beside the recordings of a table: recordings not in it, unread sound."""
    if settings.source not in ("csv", "birdclef", "demo"):
        return
    listed = {path for table in _tables(source) for path in table.paths}
    folders = {path.rpartition("/")[0] for path in listed}
    root = Root(source.recordings.root, settings.follow_links, excluded_of(settings))
    beside: list[Finding] = []
    for path in root.recordings(beside):
        if path not in listed and path.rpartition("/")[0] in folders:
            yield Finding(path, "unlisted", "lies beside recordings of the table")
    for finding in beside:
        if finding.problem == "unread" and finding.path.rpartition("/")[0] in folders:
            yield finding


def _labels(recordings: Recordings, settings: DataSettings) -> Iterator[Finding]:
    """Name labels that are spelt alike, and those that are too rare to be split."""
    codes = recordings.labels.codes
    for one, other in _alike(codes):
        yield Finding("", "label", f"'{one}' and '{other}': the same, spelt differently?")
    counts = recordings.label_counts()
    wanted = settings.num_folds
    for column in np.flatnonzero(counts == 0):
        yield Finding("", "no-recordings", f"'{codes[column]}' has none")
    few = {codes[column] for column in np.flatnonzero((counts > 0) & (counts < wanted))}
    for code in sorted(few):
        number = counts[recordings.labels.column(code)]
        yield Finding(
            "", "few-recordings", f"'{code}': {number}, fewer than data.num_folds={wanted}"
        )
    for code in labels_in_few_groups(recordings, wanted):
        if code not in few:
            yield Finding(
                "", "few-groups", f"'{code}' is in fewer groups than data.num_folds={wanted}"
            )


def _alike(codes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels that differ in case, signs or a letter; digits tell them apart.

    A letter is looked for among those that begin or end alike.
    """
    plain = {code: re.sub(r"[\W_]+", "", code).casefold() for code in codes}
    near: dict[tuple, list[str]] = defaultdict(list)
    for code, name in sorted(plain.items()):
        near[(name,)].append(code)
        if len(name) >= _LONG:
            near[name[:3], _digits(code)].append(code)
            near[_digits(code), name[-3:]].append(code)
    pairs = {pair for each in near.values() for pair in itertools.combinations(each, 2)}
    for one, other in sorted(pairs):
        a, b = plain[one], plain[other]
        matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
        if a == b or (
            matcher.real_quick_ratio() >= _SIMILAR
            and matcher.quick_ratio() >= _SIMILAR
            and matcher.ratio() >= _SIMILAR
        ):
            yield one, other


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def _leaks(recordings: Recordings) -> Iterator[Finding]:
    """Name groups of which a given split has parts on several sides."""
    sides: dict[str, Counter] = defaultdict(Counter)
    splits = recordings.table["split"].to_pylist()
    for group, split in zip(recordings.groups, splits, strict=True):
        sides[group][split] += 1
    for group, counts in sides.items():
        if len(counts) > 1:
            shown = ", ".join(f"{number} {split}" for split, number in counts.items())
            yield Finding("", "leak", f"group '{group}' stands on both sides: {shown}")


def _tables(source: DataSource) -> list[Recordings]:
    return [source.recordings, *([source.soundscapes] if source.soundscapes is not None else [])]
