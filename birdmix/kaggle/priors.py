"""What is known before anything is heard: how common species are, and where and when they call.

Shapes: R rows, C classes, N labelled windows.
"""

import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from birdmix.audio.clock import recorded_at
from birdmix.competitions import Competition
from birdmix.kaggle.rows import counted
from birdmix.recordings.birdclef import label_set, read_soundscapes
from birdmix.recordings.cells import Cells
from birdmix.recordings.findings import Finding
from birdmix.recordings.paths import Root
from birdmix.recordings.table import Recordings
from birdmix.text import nfc
from birdmix.windows import logit

#: Windows that the overall rate counts as, beside those of a site or hour: five minutes of 5 s
#: windows. It is a judgement, not fitted: neighbouring windows repeat each other, so that a site
#: known from one minute tells little.
PSEUDO_WINDOWS = 60


def class_priors(folder: Path, competition: Competition, species: Sequence[str]) -> np.ndarray:
    """Return each species' share of the focal recordings, (n + 1) / (N + C), float64 [C].

    A competition's metadata that cannot be read give 1 / C, and a warning.

    Args:
        folder: The competition's folder.
        competition: The competition.
        species: The classes, by their codes.
    """
    try:
        table = folder / competition.train_table
        labels = Cells(table, ("primary_label",), may_be_empty=True).text("primary_label")
    except ValueError as error:
        equal = 1 / len(species)
        warnings.warn(f"{error}; the prior of every species is {equal:.4g}", stacklevel=2)
        return np.full(len(species), equal)
    column = {nfc(code): c for c, code in enumerate(species)}  # as the cells are
    known = np.array([column[code] for code in labels if code in column], np.int64)
    return (np.bincount(known, minlength=len(species)) + 1) / (len(labels) + len(species))


class SitesAndHours:
    """What labelled soundscapes tell of where and at what hour of the day species are heard.

    The rate of a species at a site is an m-estimate, (k + m p) / (n + m): of the site's n windows k
    have the species, as have a share p of all windows; m is ``PSEUDO_WINDOWS``. Hours alike, where
    a window counts by a half in its own hour and by a quarter in each of those around it, 23 and 0
    being neighbours. The two are added up, as if they were independent given the species.

    Source: Cestnik 1990, "Estimating probabilities: a crucial task in machine learning", ECAI. The
    shares of neighbouring hours are our own.

    Args:
        folder: The competition's folder; of its recordings the headers of the labelled soundscapes
            are read, and nothing else.
        competition: The competition.
        species: The classes C, by their codes.

    Attributes:
        known: What it was learnt from, in words.

    Raises:
        ValueError: If there are no labelled soundscapes, or something is wrong with their labels.
    """

    def __init__(self, folder: Path, competition: Competition, species: Sequence[str]) -> None:
        self._competition = competition
        windows = _labelled_windows(Path(folder), competition)
        self._target = _targets(windows, species)
        site = np.array([self._site_of(path) for path in windows.paths])
        began = {path: recorded_at(windows.root / path) for path in set(windows.paths)}
        middle = (windows.column("start") + windows.column("end")) / 2
        hour = _hour([began[path] for path in windows.paths], middle)
        self._at_site = {name: self._told(site == name) for name in sorted({*site} - {""})}
        self._at_hour = np.stack([self._told(weight) for weight in _weights(hour)])
        self.known = (
            f"{counted(len(windows), 'labelled window')} of {counted(len(began), 'soundscape')}, "
            f"{counted(len(self._at_site), 'site')}, "
            f"{counted(len(set(hour[hour >= 0])), 'hour')} of the day"
        )

    def log_odds(
        self, soundscape: str, began: datetime | None, end_seconds: np.ndarray
    ) -> np.ndarray:
        """Return what site and hour add to the logits of a soundscape's rows, float64 [R, C].

        What a site or an hour tells is logit(its rate) - logit(p). It is 0 where none of their
        windows is labelled, where nobody knows them, and for species without labels.

        Args:
            soundscape: As row ids call it.
            began: What its clock said when it began; None if nothing tells.
            end_seconds: Where each row ends in it, [R].
        """
        site = self._competition.site_of(soundscape)
        added = np.zeros((len(end_seconds), self._target.shape[1]))
        if site in self._at_site:
            added += self._at_site[site]
        if began is not None:
            middle = end_seconds - self._competition.window_seconds / 2
            added += self._at_hour[_hour([began] * len(middle), middle).astype(int)]
        return added

    def _site_of(self, path: str) -> str:
        return self._competition.site_of(self._competition.soundscape(Path(path).stem))

    def _told(self, weight: np.ndarray) -> np.ndarray:
        """Return what windows tell beyond all of them, float64 [C], by what each counts, [N]."""
        overall = self._target.mean(axis=0)
        count = weight.sum()
        # The m-estimate, in the form that is exactly the overall rate where nothing counts.
        rate = overall + (weight @ self._target - count * overall) / (count + PSEUDO_WINDOWS)
        return logit(rate) - logit(overall)


def _labelled_windows(folder: Path, competition: Competition) -> Recordings:
    if not competition.soundscape_labels:
        raise ValueError(
            f"--prior-weight: {competition.name} has no labelled soundscapes to learn sites and "
            "hours from; leave it out"
        )
    table = folder / competition.soundscape_labels
    if not table.is_file():
        raise ValueError(f"--prior-weight: {table}: no such file; leave the option out")
    findings: list[Finding] = []
    root = Root(folder, follow_links=True)
    labels = label_set(competition, folder)
    windows = read_soundscapes(competition, root, labels, findings=findings)
    if not windows:
        raise ValueError(
            f"--prior-weight: none of the soundscapes of {table} is in "
            f"{competition.train_soundscapes}/; leave the option out"
        )
    if findings:
        first = findings[0]
        warnings.warn(
            f"--prior-weight: {table.name} does not fit the soundscapes in "
            f"{counted(len(findings), 'place')}, first {first.path} ({first.problem}: "
            f"{first.detail})",
            stacklevel=3,
        )
    return windows


def _targets(windows: Recordings, species: Sequence[str]) -> np.ndarray:
    """Return which windows have which species, float64 [N, C]; what has no label is in none."""
    known, columns = windows.labels.find(species)
    target = np.zeros((len(windows), len(species)))
    target[:, known] = windows.targets()[:, columns]
    return target


def _hour(began: Sequence[datetime | None], seconds: np.ndarray) -> np.ndarray:
    """Return the hour of the day so many seconds later, float64 [N]; NaN where nobody knows it."""
    first = [np.nan if b is None else 3600 * b.hour + 60 * b.minute + b.second for b in began]
    return (np.array(first) + seconds) // 3600 % 24


def _weights(hour: np.ndarray) -> np.ndarray:
    """Return what windows count in each hour of the day, by their own hour, [24, N]."""
    own = (np.arange(24)[:, None] == hour).astype(float)
    return own / 2 + (np.roll(own, 1, axis=0) + np.roll(own, -1, axis=0)) / 4
