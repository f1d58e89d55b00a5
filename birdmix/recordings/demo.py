"""A demo data set of synthetic birds, laid out on disk as BirdCLEF 2026 is.

train.csv, train_audio/<code>/*.ogg                    focal recordings
train_soundscapes/*.ogg, train_soundscapes_labels.csv  validation soundscapes
test_soundscapes/*.ogg, solution.csv                   test soundscapes; Kaggle hides the solution
taxonomy.csv, sample_submission.csv
demo.json                                              the settings it was made from
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from birdmix import files
from birdmix.audio.encode import write_ogg
from birdmix.audio.songs import SAMPLE_RATE, SPECIES
from birdmix.audio.synthesis import Habitat, Scene, plan_recording, plan_soundscapes, render
from birdmix.competitions import BIRDCLEF_2026 as LAYOUT
from birdmix.json_data import check_keys, read_json
from birdmix.ownership import files_below, list_everything, read_list
from birdmix.recordings.demo_tables import Plan, tables
from birdmix.recordings.settings import DemoSettings

#: Raised whenever the same settings give other sounds, names or tables; older demos are remade.
FORMAT = 1

_MANIFEST = "demo.json"


def ensure_demo(
    root: Path, settings: DemoSettings, on_progress: Callable[[int, int], None] | None = None
) -> bool:
    """Make the demo below ``root`` unless it is already there.

    Args:
        root: Folder of the demo. An older demo there is replaced.
        settings: What to make.
        on_progress: Called with the number of sound files made and their total.

    Returns:
        True if it was made, False if it stood there.

    Raises:
        ValueError: If ``root`` holds something that birdmix did not write.
    """
    root = Path(root)
    if _stands(root, settings):
        return False
    if _is_unlisted_demo(root):
        list_everything(root, "demo")
    files.check_replaceable(root, "name another folder in data.root")
    plan = plan_demo(settings)
    with files.atomic_directory(root, "demo") as partial:
        checksums = _write_sounds(partial, plan, settings, on_progress)
        for name, table in tables(plan, settings.seed).items():
            files.write_text(partial / name, table.to_csv(index=False, lineterminator="\n"))
        manifest = {**_identity(settings), "counts": _counts(settings), "digest": checksums}
        files.write_text(partial / _MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return True


def habitat_of(settings: DemoSettings) -> Habitat:
    """Return what all scenes of a demo share."""
    return Habitat(
        settings.seed, settings.individual_spread, (settings.snr_min_db, settings.snr_max_db)
    )


def plan_demo(settings: DemoSettings) -> Plan:
    """Plan every scene of a demo; two or three recordings in a row are of one individual."""
    habitat = habitat_of(settings)
    recordings = {}
    for take in range(settings.recordings_per_species):
        for index, species in enumerate(SPECIES):
            number = take * len(SPECIES) + index
            scene = plan_recording(habitat, index, (2 * take + 1) // 5, number)
            recordings[f"{LAYOUT.train_audio}/{species.code}/DM{number:06d}.ogg"] = scene
    validation = plan_soundscapes(habitat, "validation", settings.validation_soundscapes)
    test = plan_soundscapes(habitat, "test", settings.test_soundscapes)
    return Plan(
        recordings,
        {_soundscape_path(LAYOUT.train_soundscapes, 1, scene): scene for scene in validation},
        {_soundscape_path(LAYOUT.test_soundscapes, 5, scene): scene for scene in test},
    )


def _soundscape_path(folder: str, first_site: int, scene: Scene) -> str:
    site = f"S{first_site + scene.number % 4:02d}"  # splits share no site
    date = f"202605{11 + scene.number // 4 % 20:02d}"
    split = folder.split("_")[0].title()
    return f"{folder}/BC2026_{split}_{scene.number + 1:04d}_{site}_{date}_053000.ogg"


def _write_sounds(
    root: Path,
    plan: Plan,
    settings: DemoSettings,
    on_progress: Callable[[int, int], None] | None,
) -> str:
    """Render and write every scene; return a digest of their samples before encoding."""

    def make(path: str, scene: Scene) -> int:
        waveform = render(scene, settings.seed)
        write_ogg(root / path, waveform, SAMPLE_RATE)
        return zlib.crc32(waveform.tobytes())

    digest = hashlib.sha256()
    scenes = plan.scenes
    with ThreadPoolExecutor(settings.num_threads) as pool:
        for done, checksum in enumerate(pool.map(make, scenes, scenes.values()), start=1):
            digest.update(checksum.to_bytes(4, "big"))
            if on_progress:
                on_progress(done, len(scenes))
    return digest.hexdigest()


def _identity(settings: DemoSettings) -> dict[str, Any]:
    """What decides whether a demo is the one asked for."""
    what = asdict(settings)
    del what["num_threads"]
    return {"format": FORMAT, "settings": what}


def _counts(settings: DemoSettings) -> dict[str, int]:
    """Number of sound files in each folder."""
    return {
        LAYOUT.train_audio: settings.recordings_per_species * len(SPECIES),
        LAYOUT.train_soundscapes: settings.validation_soundscapes,
        LAYOUT.test_soundscapes: settings.test_soundscapes,
    }


def _is_unlisted_demo(root: Path) -> bool:
    """Return whether ``root`` is a demo alone, made by a birdmix that kept no lists."""
    if read_list(root) is not None:
        return False
    try:
        manifest = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
        settings = DemoSettings(**manifest["settings"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    plan = plan_demo(settings)
    made = {*plan.scenes, *tables(plan, settings.seed), _MANIFEST}
    return made.issuperset(files_below(root))


def _stands(root: Path, settings: DemoSettings) -> bool:
    """Tell whether the demo asked for stands below ``root``, by its manifest and file counts."""
    try:
        manifest = read_json(root / _MANIFEST)
        check_keys(manifest, None, (), _MANIFEST)
    except (OSError, ValueError):
        return False
    identity = _identity(settings)
    return {key: manifest.get(key) for key in identity} == identity and all(
        sum(1 for _ in (root / folder).rglob("*.ogg")) == count
        for folder, count in _counts(settings).items()
    )
