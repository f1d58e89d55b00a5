"""The demo: a data set of synthetic bird songs, with the files and tables of BirdCLEF 2026.

train.csv, train_audio/<code>/*.ogg                    focal recordings
train_soundscapes/*.ogg, train_soundscapes_labels.csv  validation soundscapes
test_soundscapes/*.ogg, solution.csv                   test soundscapes; Kaggle hides the solution
taxonomy.csv, sample_submission.csv
demo.json                                              manifest: the settings it was made from
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from birdmix import files
from birdmix.audio.synthetic_scenes import (
    WINDOW_SECONDS,
    ScenePlan,
    SceneSettings,
    plan_focal_recording,
    plan_soundscapes,
    species_snr_by_window,
)
from birdmix.audio.synthetic_songs import SPECIES
from birdmix.competitions import BIRDCLEF_2026 as LAYOUT
from birdmix.json_data import check_keys, read_json
from birdmix.ownership import files_below, read_file_list, write_full_file_list
from birdmix.recordings.demo_sounds import write_sounds
from birdmix.recordings.demo_tables import DemoPlan, build_tables
from birdmix.recordings.settings import DemoSettings

#: Version of the demo: increased when equal settings give other audio, names or tables, so that
#: older demos are replaced.
FORMAT = 1

_MANIFEST = "demo.json"


def ensure_demo(
    root: Path, settings: DemoSettings, on_progress: Callable[[int, int], None] | None = None
) -> bool:
    """Make the demo in a folder, unless it is complete already.

    Args:
        root: Folder of the demo. A demo of other settings or of an older version is replaced.
        settings: Settings of the demo.
        on_progress: Called with the number of sound files made and their total.

    Returns:
        Whether the demo was made now.

    Raises:
        ValueError: If ``root`` holds a file that birdmix did not write.
    """
    root = Path(root)
    if _is_complete(root, settings):
        return False
    if _is_unlisted_demo(root):
        write_full_file_list(root, "demo")
    files.check_replaceable_folder(root, "set data.root to another folder")
    plan = plan_demo(settings)
    with files.atomic_directory(root, "demo") as partial:
        digest = write_sounds(
            partial, plan.scenes_by_path, settings.seed, settings.num_processes, on_progress
        )
        for name, table in build_tables(plan, settings.seed).items():
            files.write_text(partial / name, table.to_csv(index=False, lineterminator="\n"))
        manifest = {
            **_identity(settings),
            "counts": _count_files(settings),
            "digest": digest,
        }
        files.write_text(partial / _MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return True


def demo_scene_settings(settings: DemoSettings) -> SceneSettings:
    """Return the settings that all scenes of a demo share."""
    return SceneSettings(
        settings.seed, settings.individual_spread, (settings.snr_min_db, settings.snr_max_db)
    )


def plan_demo(settings: DemoSettings) -> DemoPlan:
    """Plan all scenes of a demo; two or three successive recordings are of one individual."""
    scene_settings = demo_scene_settings(settings)
    recordings = {}
    for take in range(settings.recordings_per_species):
        for index, species in enumerate(SPECIES):
            number = take * len(SPECIES) + index
            scene = plan_focal_recording(scene_settings, index, (2 * take + 1) // 5, number)
            recordings[f"{LAYOUT.train_audio}/{species.code}/DM{number:06d}.ogg"] = scene
    validation = plan_soundscapes(scene_settings, "validation", settings.validation_soundscapes)
    test = plan_soundscapes(scene_settings, "test", settings.test_soundscapes)
    return DemoPlan(
        recordings,
        {_soundscape_path(LAYOUT.train_soundscapes, 1, scene): scene for scene in validation},
        {_soundscape_path(LAYOUT.test_soundscapes, 5, scene): scene for scene in test},
    )


def demo_test_snr(settings: DemoSettings) -> dict[str, dict[str, float]]:
    """Return the signal-to-noise ratio in dB of each species in each test window of a demo.

    Args:
        settings: Settings of the demo.

    Returns:
        Ratios by species code, by the window's row_id in ``solution.csv``; see
        ``synthetic_scenes.species_snr_by_window``.
    """
    return {
        LAYOUT.format_row_id(Path(path).stem, window * WINDOW_SECONDS): levels
        for path, scene in plan_demo(settings).test.items()
        for window, levels in enumerate(species_snr_by_window(scene), start=1)
    }


def _soundscape_path(folder: str, first_site: int, scene: ScenePlan) -> str:
    site = f"S{first_site + scene.number % 4:02d}"  # no site is in two splits
    date = f"202605{11 + scene.number // 4 % 20:02d}"
    split = folder.split("_")[0].title()
    return f"{folder}/BC2026_{split}_{scene.number + 1:04d}_{site}_{date}_053000.ogg"


def _identity(settings: DemoSettings) -> dict[str, Any]:
    """Return the manifest entries that must be equal for a demo to be reused."""
    compared = asdict(settings)
    del compared["num_processes"]
    return {"format": FORMAT, "settings": compared}


def _count_files(settings: DemoSettings) -> dict[str, int]:
    """Return the number of sound files in each folder."""
    return {
        LAYOUT.train_audio: settings.recordings_per_species * len(SPECIES),
        LAYOUT.train_soundscapes: settings.validation_soundscapes,
        LAYOUT.test_soundscapes: settings.test_soundscapes,
    }


def _is_unlisted_demo(root: Path) -> bool:
    """Return whether ``root`` holds only a demo, made by a version that kept no list of files."""
    if read_file_list(root) is not None:
        return False
    try:
        manifest = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
        settings = DemoSettings(**manifest["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    plan = plan_demo(settings)
    demo_files = {*plan.scenes_by_path, *build_tables(plan, settings.seed), _MANIFEST}
    return demo_files.issuperset(files_below(root))


def _is_complete(root: Path, settings: DemoSettings) -> bool:
    """Return whether ``root`` holds the demo of these settings, by manifest and file counts."""
    try:
        manifest = read_json(root / _MANIFEST)
        check_keys(manifest, None, (), _MANIFEST)
    except (OSError, ValueError):
        return False
    identity = _identity(settings)
    return {key: manifest.get(key) for key in identity} == identity and all(
        sum(1 for _ in (root / folder).rglob("*.ogg")) == count
        for folder, count in _count_files(settings).items()
    )
