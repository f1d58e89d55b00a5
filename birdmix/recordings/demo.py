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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from birdmix import files
from birdmix.audio.encode import write_ogg
from birdmix.audio.songs import SAMPLE_RATE, SPECIES
from birdmix.audio.synthesis import Habitat, Scene, plan_recording, plan_soundscapes, render
from birdmix.competitions import BIRDCLEF_2026 as LAYOUT
from birdmix.recordings.demo_tables import Plan, tables

#: Raised whenever the same settings give other sounds, names or tables; older demos are remade.
FORMAT = 1

_MANIFEST = "demo.json"


@dataclass
class DemoSettings:
    """What the demo holds and how hard it is.

    Attributes:
        seed: Seed of every random choice.
        recordings_per_species: Focal recordings of each of the 12 species.
        validation_soundscapes: Labelled soundscapes of 60 s to validate on.
        test_soundscapes: Soundscapes of 60 s to test on.
        snr_min_db: Lowest ratio of song to background in soundscapes, in dB.
        snr_max_db: Highest ratio of song to background in soundscapes, in dB.
        individual_spread: Factor on how much birds of a species differ in pitch and pace; 0: alike.
        num_threads: Threads to make it with; they do not change what is made.

    Raises:
        ValueError: If a value is out of range.
    """

    seed: int = 0
    recordings_per_species: int = 24
    validation_soundscapes: int = 8
    test_soundscapes: int = 16
    snr_min_db: float = -5.0
    snr_max_db: float = 20.0
    individual_spread: float = 1.0
    num_threads: int = 2

    def __post_init__(self) -> None:
        for name in ("recordings_per_species", "validation_soundscapes", "test_soundscapes"):
            if not 1 <= getattr(self, name) <= 9999:
                raise ValueError(f"{name} must be between 1 and 9999, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {self.num_threads}")
        if not 0 <= self.individual_spread <= 3:
            raise ValueError(
                f"individual_spread must be between 0 and 3, got {self.individual_spread}"
            )
        if not -40 <= self.snr_min_db <= self.snr_max_db <= 40:
            raise ValueError(
                "snr_min_db must not exceed snr_max_db, both between -40 and 40, "
                f"got {self.snr_min_db} and {self.snr_max_db}"
            )

    @property
    def habitat(self) -> Habitat:
        """What all scenes share."""
        return Habitat(self.seed, self.individual_spread, (self.snr_min_db, self.snr_max_db))


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
        ValueError: If ``root`` holds something that is not a demo.
    """
    root = Path(root)
    if _stands(root, settings):
        return False
    if not _may_be_replaced(root):
        raise ValueError(
            f"{root} holds files that are not a demo ({_MANIFEST} is missing) and stays as it is; "
            "name another folder in data.root"
        )
    plan = plan_demo(settings)
    with files.atomic_directory(root) as partial:
        checksums = _write_sounds(partial, plan, settings, on_progress)
        for name, table in tables(plan, settings.seed).items():
            files.write_text(partial / name, table.to_csv(index=False, lineterminator="\n"))
        manifest = {**_identity(settings), "counts": _counts(settings), "digest": checksums}
        files.write_text(partial / _MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return True


def plan_demo(settings: DemoSettings) -> Plan:
    """Plan every scene of a demo; two or three recordings in a row are of one individual."""
    recordings = {}
    for take in range(settings.recordings_per_species):
        for index, species in enumerate(SPECIES):
            number = take * len(SPECIES) + index
            scene = plan_recording(settings.habitat, index, (2 * take + 1) // 5, number)
            recordings[f"{LAYOUT.train_audio}/{species.code}/DM{number:06d}.ogg"] = scene
    validation = plan_soundscapes(settings.habitat, "validation", settings.validation_soundscapes)
    test = plan_soundscapes(settings.habitat, "test", settings.test_soundscapes)
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


def _may_be_replaced(root: Path) -> bool:
    """Tell whether ``root`` is free, empty or a demo: nobody's own files are deleted."""
    if root.is_dir():
        return (root / _MANIFEST).is_file() or not any(root.iterdir())
    return not root.exists()


def _stands(root: Path, settings: DemoSettings) -> bool:
    """Tell whether the demo asked for stands below ``root``, by its manifest and file counts."""
    try:
        manifest = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    identity = _identity(settings)
    return {key: manifest.get(key) for key in identity} == identity and all(
        sum(1 for _ in (root / folder).rglob("*.ogg")) == count
        for folder, count in _counts(settings).items()
    )
