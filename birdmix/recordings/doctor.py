"""What is wrong with a data set: its sound, its tables, its labels, its split."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdmix.audio.duplicates import find_duplicates
from birdmix.audio.examine import Examination, examine
from birdmix.recordings.folds import labels_in_few_groups
from birdmix.recordings.paths import Missing, Root
from birdmix.recordings.readers import read_source
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.table import DataSource, Recordings
from birdmix.threads import Progress, each

#: Problems of recordings from which nothing can be learned.
USELESS = ("empty", "unreadable", "silent", "missing")

#: Labels as similar as this are one label, misspelt, if they are as long as this.
_SIMILAR, _LONG = 0.92, 8


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        path: Recording; empty where it is about labels or groups.
        problem: What kind of thing it is, in a word.
        detail: What exactly.
    """

    path: str
    problem: str
    detail: str


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
    paths = root.recordings()
    if not paths:
        raise ValueError(f"{folder}: no recordings here (wav, flac, ogg, opus, mp3, aiff, ...)")
    return _diagnosis(root.folder, paths, [], None, on_progress)


def examine_data(settings: DataSettings, on_progress: Progress | None = None) -> Diagnosis:
    """Read a data set as a run would, and decode all its recordings.

    Raises:
        ValueError: If it cannot be read at all.
    """
    missing: Missing = {}
    source = read_source(settings, missing)
    findings = [Finding(path, "missing", f"named by {where}") for path, where in missing.items()]
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
    """Say which recordings hold the sound of another, and whether their table knows it."""
    known = {} if recordings is None else _by_path(recordings)
    for first, *others in find_duplicates(examined):
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
    """Name the recordings that lie beside those of a table and are not in it."""
    if settings.source not in ("csv", "birdclef", "demo"):
        return
    listed = {path for table in _tables(source) for path in table.paths}
    folders = {path.rpartition("/")[0] for path in listed}
    for path in Root(source.recordings.root, settings.follow_links).recordings():
        if path not in listed and path.rpartition("/")[0] in folders:
            yield Finding(path, "unlisted", "lies beside recordings of the table")


def _labels(recordings: Recordings, settings: DataSettings) -> Iterator[Finding]:
    """Name labels that are spelt alike, and those that are too rare to be split."""
    codes = recordings.labels.codes
    for one, other in _alike(codes):
        yield Finding("", "label", f"'{one}' and '{other}': the same, spelt differently?")
    counts = recordings.label_counts()
    wanted = settings.num_folds
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
    """Yield pairs of labels that differ in case, signs or a letter; digits tell them apart."""
    plain = {code: re.sub(r"[\W_]+", "", code).casefold() for code in codes}
    names = sorted(plain)
    for at, one in enumerate(names):
        matcher = difflib.SequenceMatcher(b=plain[one], autojunk=False)
        for other in names[at + 1 :]:
            if plain[one] == plain[other]:
                yield one, other
                continue
            if min(len(plain[one]), len(plain[other])) < _LONG or _digits(one) != _digits(other):
                continue
            matcher.set_seq1(plain[other])
            quick = matcher.real_quick_ratio() >= _SIMILAR and matcher.quick_ratio() >= _SIMILAR
            if quick and matcher.ratio() >= _SIMILAR:
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
