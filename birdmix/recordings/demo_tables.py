"""The plan of the demo's scenes, and its tables with the columns of BirdCLEF 2026."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdmix import random_keys
from birdmix.audio.synthetic_acoustics import distance_from_snr
from birdmix.audio.synthetic_scenes import WINDOW_SECONDS, ScenePlan, species_codes_by_window
from birdmix.audio.synthetic_songs import SPECIES
from birdmix.competitions import BIRDCLEF_2026 as LAYOUT

#: The species' codes in the order of submission columns.
CODES = sorted(species.code for species in SPECIES)

_FIRST_NAMES = ("Ada", "Bela", "Chidi", "Dana", "Emil", "Freya")
_LAST_NAMES = ("Alder", "Birch", "Cedar", "Elm", "Hazel", "Larch", "Rowan", "Yew")
_AUTHORS = tuple(f"{first} {last}" for last in _LAST_NAMES for first in _FIRST_NAMES)


@dataclass(frozen=True)
class DemoPlan:
    """The scenes of a demo, by the path of their sound file relative to the demo's root.

    Attributes:
        recordings: Scenes of the focal recordings.
        validation: Scenes of the soundscapes to validate on.
        test: Scenes of the test soundscapes.
    """

    recordings: dict[str, ScenePlan]
    validation: dict[str, ScenePlan]
    test: dict[str, ScenePlan]

    @property
    def scenes_by_path(self) -> dict[str, ScenePlan]:
        """All scenes by path."""
        return self.recordings | self.validation | self.test


def build_tables(plan: DemoPlan, seed: int) -> dict[str, pd.DataFrame]:
    """Return the demo's tables by file name.

    Args:
        plan: The scenes.
        seed: Seed of the demo.
    """
    return {
        LAYOUT.train_table: pd.DataFrame(
            [_recording_row(path, scene, seed) for path, scene in plan.recordings.items()]
        ),
        LAYOUT.soundscape_labels: _build_soundscape_labels(plan.validation),
        LAYOUT.taxonomy: pd.DataFrame(_taxon_row(index) for index in range(len(SPECIES))),
        LAYOUT.sample_submission: _build_sample_submission(plan.test),
        LAYOUT.solution: _build_solution(plan.test),
    }


def _taxon_row(index: int) -> dict[str, Any]:
    species = SPECIES[index]
    return {
        "primary_label": species.code,
        "inat_taxon_id": species.taxon,
        "scientific_name": species.scientific_name,
        "common_name": species.common_name,
        "class_name": "Aves",
    }


def _recording_row(path: str, scene: ScenePlan, seed: int) -> dict[str, Any]:
    singer, *background_singers = scene.singers
    author = (5 * singer.individual + singer.species) % len(_AUTHORS)
    place = random_keys.generator(seed, "demo place", author).uniform((-17, -58), (-15, -55))
    taxon = _taxon_row(singer.species)
    return {
        "primary_label": taxon["primary_label"],
        "secondary_labels": str([SPECIES[other.species].code for other in background_singers]),
        "type": "song",
        "latitude": round(float(place[0]), 4),
        "longitude": round(float(place[1]), 4),
        "scientific_name": taxon["scientific_name"],
        "common_name": taxon["common_name"],
        "class_name": taxon["class_name"],
        "inat_taxon_id": taxon["inat_taxon_id"],
        "author": _AUTHORS[author],
        "license": "CC0 1.0",
        "rating": _rate_recording(distance_from_snr(singer.snr_db), scene.number),
        "url": "",
        "filename": path.removeprefix(f"{LAYOUT.train_audio}/"),
        "collection": "Demo",
    }


def _rate_recording(distance: float, number: int) -> float:
    """Return a recording's rating by the bird's distance in metres: 0.5 to 5, or 0 for unrated."""
    if number % 23 == 7:
        return 0.0
    return float(np.clip(round(2 * (6 - 1.25 * np.log2(distance / 2))) / 2, 0.5, 5))


def _list_windows(scenes: dict[str, ScenePlan]) -> Iterable[tuple[str, int, set[str]]]:
    """Yield path, end in seconds and species codes of each window."""
    for path, scene in scenes.items():
        for window, codes in enumerate(species_codes_by_window(scene), start=1):
            yield path, window * WINDOW_SECONDS, codes


def _build_soundscape_labels(scenes: dict[str, ScenePlan]) -> pd.DataFrame:
    rows = [
        {
            "filename": Path(path).name,
            "start": _format_clock(end - WINDOW_SECONDS),
            "end": _format_clock(end),
            "primary_label": ";".join(sorted(codes)),
        }
        for path, end, codes in _list_windows(scenes)
    ]
    return pd.DataFrame(rows + rows[::10])  # BirdCLEF's file repeats windows too


def _format_clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _build_solution(scenes: dict[str, ScenePlan]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_id": LAYOUT.format_row_id(Path(path).stem, end),
            **{code: int(code in codes) for code in CODES},
        }
        for path, end, codes in _list_windows(scenes)
    )


def _build_sample_submission(scenes: dict[str, ScenePlan]) -> pd.DataFrame:
    sample = _build_solution(scenes).head(3)
    sample[CODES] = 1 / len(CODES)
    return sample
