"""The demo's tables, in the columns of BirdCLEF 2026."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdmix import keys
from birdmix.audio.songs import SPECIES
from birdmix.audio.synthesis import WINDOW_SECONDS, Scene, window_labels
from birdmix.audio.weather import metres
from birdmix.competitions import BIRDCLEF_2026 as LAYOUT

#: The species' codes in the order of submission columns.
CODES = sorted(species.code for species in SPECIES)

_FIRST_NAMES = ("Ada", "Bela", "Chidi", "Dana", "Emil", "Freya")
_LAST_NAMES = ("Alder", "Birch", "Cedar", "Elm", "Hazel", "Larch", "Rowan", "Yew")
_AUTHORS = tuple(f"{first} {last}" for last in _LAST_NAMES for first in _FIRST_NAMES)


@dataclass(frozen=True)
class Plan:
    """The scenes of a demo, by the path of their file relative to its root."""

    recordings: dict[str, Scene]
    validation: dict[str, Scene]
    test: dict[str, Scene]

    @property
    def scenes(self) -> dict[str, Scene]:
        """All scenes by path."""
        return self.recordings | self.validation | self.test


def tables(plan: Plan, seed: int) -> dict[str, pd.DataFrame]:
    """Return the demo's tables by file name; ``seed`` is the demo's."""
    return {
        LAYOUT.train_table: pd.DataFrame(
            [_recording_row(path, scene, seed) for path, scene in plan.recordings.items()]
        ),
        LAYOUT.soundscape_labels: _soundscape_labels(plan.validation),
        LAYOUT.taxonomy: pd.DataFrame(_taxon(index) for index in range(len(SPECIES))),
        LAYOUT.sample_submission: _sample_submission(plan.test),
        LAYOUT.solution: _solution(plan.test),
    }


def _taxon(index: int) -> dict[str, Any]:
    species = SPECIES[index]
    return {
        "primary_label": species.code,
        "inat_taxon_id": species.taxon,
        "scientific_name": species.scientific_name,
        "common_name": species.common_name,
        "class_name": "Aves",
    }


def _recording_row(path: str, scene: Scene, seed: int) -> dict[str, Any]:
    singer, *behind = scene.singers
    author = (5 * singer.individual + singer.species) % len(_AUTHORS)
    place = keys.generator(seed, "demo place", author).uniform((-17, -58), (-15, -55))
    taxon = _taxon(singer.species)
    return {
        "primary_label": taxon["primary_label"],
        "secondary_labels": str([SPECIES[other.species].code for other in behind]),
        "type": "song",
        "latitude": round(float(place[0]), 4),
        "longitude": round(float(place[1]), 4),
        "scientific_name": taxon["scientific_name"],
        "common_name": taxon["common_name"],
        "class_name": taxon["class_name"],
        "inat_taxon_id": taxon["inat_taxon_id"],
        "author": _AUTHORS[author],
        "license": "CC0 1.0",
        "rating": _rating(metres(singer.snr_db), scene.number),
        "url": "",
        "filename": path.removeprefix(f"{LAYOUT.train_audio}/"),
        "collection": "Demo",
    }


def _rating(distance: float, number: int) -> float:
    """Rate a recording by the bird's distance in metres: 0.5 to 5; some are not rated, hence 0."""
    if number % 23 == 7:
        return 0.0
    return float(np.clip(round(2 * (6 - 1.25 * np.log2(distance / 2))) / 2, 0.5, 5))


def _windows(scenes: dict[str, Scene]) -> Iterable[tuple[str, int, set[str]]]:
    """Yield path, end in seconds and codes of every window."""
    for path, scene in scenes.items():
        for window, codes in enumerate(window_labels(scene), start=1):
            yield path, window * WINDOW_SECONDS, codes


def _soundscape_labels(scenes: dict[str, Scene]) -> pd.DataFrame:
    rows = [
        {
            "filename": Path(path).name,
            "start": _clock(end - WINDOW_SECONDS),
            "end": _clock(end),
            "primary_label": ";".join(sorted(codes)),
        }
        for path, end, codes in _windows(scenes)
    ]
    return pd.DataFrame(rows + rows[::10])  # the real file lists windows twice as well


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _solution(scenes: dict[str, Scene]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_id": LAYOUT.row_id(Path(path).stem, end),
            **{code: int(code in codes) for code in CODES},
        }
        for path, end, codes in _windows(scenes)
    )


def _sample_submission(scenes: dict[str, Scene]) -> pd.DataFrame:
    dummy = _solution(scenes).head(3)
    dummy[CODES] = 1 / len(CODES)
    return dummy
