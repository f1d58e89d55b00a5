"""Priors of species: by their share of the focal recordings, by site and by hour of the day.

Shapes: R rows, C classes, N labelled windows.
"""

import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from birdmix.audio.start_time import read_start_datetime
from birdmix.competitions import Competition
from birdmix.messages import format_count
from birdmix.recordings.birdclef_source import read_label_set, read_labelled_soundscapes
from birdmix.recordings.data_findings import Finding
from birdmix.recordings.data_root import DataRoot
from birdmix.recordings.recordings_table import Recordings
from birdmix.recordings.text_table import TextTable
from birdmix.text import nfc
from birdmix.windows import logit

#: Weight of the overall rate in the rate of a site or hour, in windows: five minutes of 5 s
#: windows. Chosen, not fitted: neighbouring windows are alike, so a minute of a site is weak
#: evidence.
PSEUDO_WINDOWS = 60


def class_priors(folder: Path, competition: Competition, species: Sequence[str]) -> np.ndarray:
    """Return each species' share of the focal recordings, (n + 1) / (F + C), float64 [C].

    n of the F focal recordings have the species as their primary label. If the competition's
    metadata cannot be read, the share is 1 / C, with a warning.

    Args:
        folder: The competition's folder.
        competition: The competition.
        species: The classes, by their codes.
    """
    try:
        table = folder / competition.train_table
        labels = TextTable(table, ("primary_label",), may_be_empty=True).text_column(
            "primary_label"
        )
    except ValueError as error:
        equal = 1 / len(species)
        warnings.warn(f"{error}; the prior of every species is {equal:.4g}", stacklevel=2)
        return np.full(len(species), equal)
    column = {nfc(code): c for c, code in enumerate(species)}  # cells are NFC
    known = np.array([column[code] for code in labels if code in column], np.int64)
    return (np.bincount(known, minlength=len(species)) + 1) / (len(labels) + len(species))


class SiteAndHourPriors:
    """Log-odds of species by site and hour of the day, estimated from labelled soundscapes.

    The rate of a species at a site is an m-estimate, (k + m p) / (n + m): k of the site's n windows
    have the species, and a share p of all windows; m is ``PSEUDO_WINDOWS``. The rate at an hour is
    estimated alike, where a window has weight 1/2 in its own hour and 1/4 in each of the two next
    to it; 23 and 0 are neighbours. The log-odds of site and hour are added, as if they were
    independent given the species.

    Source: Cestnik 1990, "Estimating probabilities: a crucial task in machine learning", ECAI. The
    weights of neighbouring hours are our own.

    Args:
        folder: The competition's folder. Of its recordings only the headers of the labelled
            soundscapes are read.
        competition: The competition.
        species: The classes C, by their codes.

    Attributes:
        summary: Numbers of labelled windows, soundscapes, sites and hours, in words.

    Raises:
        ValueError: If there are no labelled soundscapes, or their labels are invalid.
    """

    def __init__(self, folder: Path, competition: Competition, species: Sequence[str]) -> None:
        self._competition = competition
        windows = _labelled_windows(Path(folder), competition)
        self._target = _targets(windows, species)
        site = np.array([self._site_of(path) for path in windows.paths])
        start_times = {
            path: read_start_datetime(windows.root / path) for path in set(windows.paths)
        }
        middle = (windows.numeric_column("start") + windows.numeric_column("end")) / 2
        hour = _hour([start_times[path] for path in windows.paths], middle)
        self._site_log_odds = {
            name: self._log_odds_of(site == name) for name in sorted({*site} - {""})
        }
        self._hour_log_odds = np.stack([self._log_odds_of(w) for w in _hour_weights(hour)])
        self.summary = (
            f"{format_count(len(windows), 'labelled window')} of "
            f"{format_count(len(start_times), 'soundscape')}, "
            f"{format_count(len(self._site_log_odds), 'site')}, "
            f"{format_count(len(set(hour[hour >= 0])), 'hour')} of the day"
        )

    def log_odds(
        self, soundscape: str, recorded_at: datetime | None, end_seconds: np.ndarray
    ) -> np.ndarray:
        """Return the log-odds to add to the logits of a soundscape's rows, float64 [R, C].

        Those of a site or an hour are logit(its rate) - logit(p). They are 0 for a site or hour
        that is unknown or has no labelled window, and for species without labels.

        Args:
            soundscape: Its name in row ids.
            recorded_at: Local time at which the recording begins; None if unknown.
            end_seconds: End of each row's window in the soundscape, in seconds, [R].
        """
        site = self._competition.site_of_soundscape(soundscape)
        log_odds = np.zeros((len(end_seconds), self._target.shape[1]))
        if site in self._site_log_odds:
            log_odds += self._site_log_odds[site]
        if recorded_at is not None:
            middle = end_seconds - self._competition.window_seconds / 2
            log_odds += self._hour_log_odds[_hour([recorded_at] * len(middle), middle).astype(int)]
        return log_odds

    def _site_of(self, path: str) -> str:
        return self._competition.site_of_soundscape(
            self._competition.soundscape_name(Path(path).stem)
        )

    def _log_odds_of(self, weight: np.ndarray) -> np.ndarray:
        """Return the log-odds of weighted windows [N] relative to all windows, float64 [C]."""
        overall = self._target.mean(axis=0)
        count = weight.sum()
        # The m-estimate, written so that it is exactly the overall rate where all weights are 0.
        rate = overall + (weight @ self._target - count * overall) / (count + PSEUDO_WINDOWS)
        return logit(rate) - logit(overall)


def _labelled_windows(folder: Path, competition: Competition) -> Recordings:
    if not competition.soundscape_labels:
        raise ValueError(
            f"--prior-weight: {competition.name} has no labelled soundscapes to estimate rates of "
            "sites and hours from; leave it out"
        )
    table = folder / competition.soundscape_labels
    if not table.is_file():
        raise ValueError(f"--prior-weight: {table}: no such file; leave the option out")
    findings: list[Finding] = []
    root = DataRoot(folder, follow_links=True)
    labels = read_label_set(competition, folder)
    windows = read_labelled_soundscapes(competition, root, labels, findings=findings)
    if not windows:
        raise ValueError(
            f"--prior-weight: none of the soundscapes of {table} is in "
            f"{competition.train_soundscapes}/; leave the option out"
        )
    if findings:
        first = findings[0]
        warnings.warn(
            f"--prior-weight: {table.name} does not match the soundscapes in "
            f"{format_count(len(findings), 'place')}, first {first.path} ({first.problem}: "
            f"{first.detail})",
            stacklevel=3,
        )
    return windows


def _targets(windows: Recordings, species: Sequence[str]) -> np.ndarray:
    """Return the target of each window, float64 [N, C]; 0 for species without a label."""
    known, columns = windows.labels.find_columns(species)
    target = np.zeros((len(windows), len(species)))
    target[:, known] = windows.targets()[:, columns]
    return target


def _hour(start_times: Sequence[datetime | None], seconds: np.ndarray) -> np.ndarray:
    """Return the hour of the day ``seconds`` after each start, float64 [N]; NaN if unknown."""
    start = [np.nan if t is None else 3600 * t.hour + 60 * t.minute + t.second for t in start_times]
    return (np.array(start) + seconds) // 3600 % 24


def _hour_weights(hour: np.ndarray) -> np.ndarray:
    """Return the weight of each window in each hour of the day, [24, N], given its own hour."""
    own = (np.arange(24)[:, None] == hour).astype(float)
    return own / 2 + (np.roll(own, 1, axis=0) + np.roll(own, -1, axis=0)) / 4
