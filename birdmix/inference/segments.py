"""Which detections to check by ear, and the names of what is cut out of their recordings.

Shapes: N detections of a species, K chosen ones, V different values.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from birdmix.inference.found import Found
from birdmix.inference.names import shortened
from birdmix.inference.species import SpeciesFinder
from birdmix.labels import Labels
from birdmix.suggest import did_you_mean

#: A goal is missed by at most this share of the way to the next, for the sake of a recording of
#: which there is less: so neighbours stay half a way apart.
_REACH = 0.25

_BISECTIONS = 50
_LONGEST_RECORDING, _LONGEST_SPECIES = 60, 200

#: What no folder can be called on Windows, whatever follows a dot.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def by_species(found: Iterable[Found], wanted: Sequence[str] = ()) -> dict[str, list[Found]]:
    """Sort detections by species: codes in order of their names, each with all its detections.

    Args:
        found: All of them.
        wanted: Codes or names of the species wanted; all if empty.

    Raises:
        ValueError: If one that is wanted has none.
    """
    groups: dict[str, list[Found]] = defaultdict(list)
    for each in found:
        groups[each.species].append(each)
    names = {code: some[0].common_name for code, some in groups.items()}
    codes = sorted(groups, key=lambda code: (names[code].casefold(), code))
    finder = SpeciesFinder(Labels(tuple(codes), tuple(names[code] for code in codes)))
    kept: set[int] = set()
    for text in wanted:
        columns = finder.columns(text)
        if not columns:
            right = did_you_mean(text, [*codes, *filter(None, names.values())])
            raise ValueError(f"--species={text!r}: no detections of it{right}")
        kept.update(columns)
    return {code: groups[code] for at, code in enumerate(codes) if at in kept or not wanted}


def choose(found: Iterable[Found], count: int) -> list[Found]:
    """Choose detections of one species, spread as evenly over its confidences as they allow.

    Evenly over the range of confidence, not over its quantiles: most detections crowd at one end of
    it, and what is asked is from where on to believe them, which needs some at every height. (A
    logistic regression of right and wrong on confidence wants the same: Wood and Kahl 2024,
    "Guidelines for appropriate use of BirdNET scores and other detector outputs", Journal of
    Ornithology 165.) Hence the share that is right among the chosen is not that among all.

    The least and the most confident are among them. Of detections that do as well, one is taken of
    a recording with fewer chosen so far, then by path and start: no chance is in it.

    Args:
        found: Detections of one species.
        count: How many to choose, at least 1.

    Returns:
        The chosen, the most confident first; all if there are no more than ``count``.
    """
    ordered = sorted(found, key=lambda f: (-f.confidence, f.path, f.start_seconds))
    if len(ordered) <= count:
        return ordered
    confidence = np.array([f.confidence for f in ordered])
    recording = np.unique([f.path for f in ordered], return_inverse=True)[1]
    goals = np.resize(furthest_apart(np.unique(confidence), count), count)
    apart = np.diff(np.unique(goals)).min(initial=np.inf)
    times_chosen = np.zeros(recording.max() + 1, int)
    free = np.ones(len(ordered), bool)
    chosen = []
    for goal in goals:
        distance = np.where(free, np.abs(confidence - goal), np.inf)
        an_end = goal in (confidence[0], confidence[-1])
        reach = 0.0 if an_end else _REACH * apart
        near = np.flatnonzero(distance <= max(reach, distance.min()))
        chosen.append(near[np.lexsort((distance[near], times_chosen[recording[near]]))[0]])
        times_chosen[recording[chosen[-1]]] += 1
        free[chosen[-1]] = False
    return [ordered[number] for number in sorted(chosen)]


def furthest_apart(values: np.ndarray, count: int) -> np.ndarray:
    """Return the values of which the two nearest are as far apart as can be, both ends included.

    Where values are dense, that is evenly spaced; where they leave gaps, evenly over the rest.

    Args:
        values: Different ones, rising, float64 [V].
        count: How many, at least 1; 1 is the highest.

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
        if len(_stepping_down(values, middle, count)) == count:
            possible = middle
        else:
            best = middle
    steps = _stepping_down(values, possible, count)
    return values[[*steps[:-1], 0]]


def _stepping_down(values: np.ndarray, gap: float, count: int) -> list[int]:
    """Step from the highest value down, by the gap or just more; at most ``count`` of them."""
    steps = [len(values) - 1]
    while len(steps) < count:
        below = int(np.searchsorted(values, values[steps[-1]] - gap, side="right")) - 1
        below = min(below, steps[-1] - 1)
        if below < 0:
            break
        steps.append(below)
    return steps


class Names:
    """Names of files that any system can hold, none given twice (nor in other capitals)."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._folders: dict[str, str] = {}

    def of(self, found: Found) -> str:
        """Name a detection's clip, without a suffix: ``robin/0.870_site_20240501_053000_12.5s``."""
        if found.species not in self._folders:
            self._folders[found.species] = self._new(_plain(found.species, _LONGEST_SPECIES))
        recording = _plain(os.path.splitext(found.path)[0], _LONGEST_RECORDING)
        name = f"{found.confidence:.3f}_{recording}_{found.start_seconds:.1f}s"
        return self._new(f"{self._folders[found.species]}/{name}")

    def _new(self, name: str) -> str:
        number, candidate = 1, name
        while candidate.lower() in self._given:
            number += 1
            candidate = f"{name}-{number}"
        self._given.add(candidate.lower())
        return candidate


def _plain(text: str, longest: int) -> str:
    """Keep letters, digits and the like; other signs become ``_``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-") or "_"
    return shortened(f"_{plain}" if _RESERVED.match(plain) else plain, longest)
