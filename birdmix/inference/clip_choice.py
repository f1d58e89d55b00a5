"""Choice of the detections whose clips people check, and the names of the clips.

Shapes: N detections of a species, K chosen ones, V different values.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from birdmix.inference.detection_table import DetectionRow
from birdmix.inference.file_name_length import shorten_name
from birdmix.inference.species_lookup import SpeciesFinder
from birdmix.labels import Labels
from birdmix.messages import did_you_mean

#: A detection may differ from its goal by at most this share of the distance between goals, if its
#: recording then has fewer chosen ones: so neighbours stay half a distance apart.
_REACH = 0.25

_BISECTIONS = 50
_MAX_RECORDING_NAME, _MAX_SPECIES_NAME = 60, 200

#: Names that folders cannot have on Windows, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def group_detections_by_species(
    rows: Iterable[DetectionRow], species: Sequence[str] = ()
) -> dict[str, list[DetectionRow]]:
    """Group detections by species.

    Args:
        rows: All detections.
        species: Codes or names of the species to keep; all if empty.

    Returns:
        The detections of each code; codes in the order of their names.

    Raises:
        ValueError: If one of ``species`` has no detection.
    """
    groups: dict[str, list[DetectionRow]] = defaultdict(list)
    for row in rows:
        groups[row.species].append(row)
    names = {code: group[0].common_name for code, group in groups.items()}
    codes = sorted(groups, key=lambda code: (names[code].casefold(), code))
    finder = SpeciesFinder(Labels(tuple(codes), tuple(names[code] for code in codes)))
    kept: set[int] = set()
    for text in species:
        columns = finder.columns(text)
        if not columns:
            hint = did_you_mean(text, [*codes, *filter(None, names.values())])
            raise ValueError(f"--species={text!r}: no detections of it{hint}")
        kept.update(columns)
    return {code: groups[code] for at, code in enumerate(codes) if at in kept or not species}


def choose_detections(rows: Iterable[DetectionRow], count: int) -> list[DetectionRow]:
    """Choose detections of one species, spread over its confidences as evenly as possible.

    They are spread over the range of confidence, not over its quantiles: most detections lie at one
    end of it, and to find the confidence from which on they can be trusted, some are needed
    everywhere. (A logistic regression of correctness on confidence needs the same: Wood and Kahl
    2024, "Guidelines for appropriate use of BirdNET scores and other detector outputs", Journal of
    Ornithology 165.) So the share of correct ones among the chosen differs from that among all.

    The least and the most confident are among them. Of equally suitable detections, one of a
    recording with fewer chosen so far is taken, then the first by path and start. No choice is
    random.

    Args:
        rows: Detections of one species.
        count: Detections to choose, at least 1.

    Returns:
        The chosen, the most confident first; all if there are no more than ``count``.
    """
    ordered = sorted(rows, key=lambda row: (-row.confidence, row.path, row.start_seconds))
    if len(ordered) <= count:
        return ordered
    confidence = np.array([row.confidence for row in ordered])
    recording = np.unique([row.path for row in ordered], return_inverse=True)[1]
    goals = np.resize(choose_spread_values(np.unique(confidence), count), count)
    distance_of_goals = np.diff(np.unique(goals)).min(initial=np.inf)
    times_chosen = np.zeros(recording.max() + 1, int)
    is_free = np.ones(len(ordered), bool)
    chosen = []
    for goal in goals:
        distance = np.where(is_free, np.abs(confidence - goal), np.inf)
        is_end = goal in (confidence[0], confidence[-1])
        reach = 0.0 if is_end else _REACH * distance_of_goals
        near = np.flatnonzero(distance <= max(reach, distance.min()))
        chosen.append(near[np.lexsort((distance[near], times_chosen[recording[near]]))[0]])
        times_chosen[recording[chosen[-1]]] += 1
        is_free[chosen[-1]] = False
    return [ordered[number] for number in sorted(chosen)]


def choose_spread_values(values: np.ndarray, count: int) -> np.ndarray:
    """Choose values so that the smallest distance of two is as large as possible.

    Both ends are chosen. Where values are dense, the chosen are evenly spaced; where there are
    gaps, evenly over the rest.

    Args:
        values: Different values in ascending order, float64 [V].
        count: Values to choose, at least 1; 1 is the highest.

    Returns:
        The highest first, float64 [K]; all if there are no more than ``count``.
    """
    if len(values) <= count:
        return values[::-1]
    if count == 1:
        return values[-1:]
    possible, best = 0.0, (values[-1] - values[0]) / (count - 1)
    for _ in range(_BISECTIONS):
        middle = (possible + best) / 2
        if len(_choose_downwards(values, middle, count)) == count:
            possible = middle
        else:
            best = middle
    chosen = _choose_downwards(values, possible, count)
    return values[[*chosen[:-1], 0]]


def _choose_downwards(values: np.ndarray, gap: float, count: int) -> list[int]:
    """Choose values from the highest down, at least ``gap`` apart; at most ``count`` of them."""
    chosen = [len(values) - 1]
    while len(chosen) < count:
        below = int(np.searchsorted(values, values[chosen[-1]] - gap, side="right")) - 1
        below = min(below, chosen[-1] - 1)
        if below < 0:
            break
        chosen.append(below)
    return chosen


class ClipNamer:
    """Names of clips: supported by all systems, and different even where case is ignored."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._folders: dict[str, str] = {}

    def name_clip(self, row: DetectionRow) -> str:
        """Name a detection's clip, without a suffix: ``robin/0.870_site_20240501_053000_12.5s``."""
        if row.species not in self._folders:
            self._folders[row.species] = self._make_unique(_plain(row.species, _MAX_SPECIES_NAME))
        recording = _plain(os.path.splitext(row.path)[0], _MAX_RECORDING_NAME)
        name = f"{row.confidence:.3f}_{recording}_{row.start_seconds:.1f}s"
        return self._make_unique(f"{self._folders[row.species]}/{name}")

    def _make_unique(self, name: str) -> str:
        number, candidate = 1, name
        while candidate.lower() in self._used:
            number += 1
            candidate = f"{name}-{number}"
        self._used.add(candidate.lower())
        return candidate


def _plain(text: str, max_bytes: int) -> str:
    """Keep ASCII letters, digits, ``.``, ``_`` and ``-``; other characters become ``_``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "_"
    return shorten_name(f"_{plain}" if _RESERVED.match(plain) else plain, max_bytes)
