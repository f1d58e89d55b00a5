"""The sound files of the demo, rendered and written in several processes."""

import hashlib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from birdmix.audio.encode import write_ogg
from birdmix.audio.synthetic_scenes import ScenePlan, render_scene
from birdmix.audio.synthetic_songs import SAMPLE_RATE
from birdmix.threads import map_in_threads, num_processors
from birdmix.worker_processes import map_in_processes

# Least seconds of sound for each process: they take 4 s to make, as a process takes 1 s to start.
_MIN_SECONDS = 300.0


def write_sounds(
    root: Path,
    scenes: Mapping[str, ScenePlan],
    seed: int,
    num_processes: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> str:
    """Render and write scenes; their content is the same for any number of processes.

    Args:
        root: Folder of the sound files.
        scenes: Scenes by the path of their file.
        seed: Seed of the demo.
        num_processes: Most processes; None is one for each processor.
        on_progress: Called with the number of files written and their total.

    Returns:
        A digest of the samples before encoding.
    """
    digest = hashlib.sha256()
    checksums = _write_in_parallel(root, scenes, seed, num_processes or num_processors())
    for done, checksum in enumerate(checksums, start=1):
        digest.update(checksum.to_bytes(4, "big"))
        if on_progress:
            on_progress(done, len(scenes))
    return digest.hexdigest()


def _write_in_parallel(
    root: Path, scenes: Mapping[str, ScenePlan], seed: int, num_processes: int
) -> Iterator[int]:
    """Yield the checksum of each scene: from processes, or from threads if the demo is small."""
    work, items = partial(_write_scene, root, seed), list(scenes.items())
    num_useful = int(sum(scene.seconds for scene in scenes.values()) / _MIN_SECONDS)
    if min(num_processes, num_useful) > 1 and sys.executable:  # empty where Python is embedded
        yield from map_in_processes(work, items, min(num_processes, num_useful))
    else:
        for _, checksum in map_in_threads(work, items, num_threads=num_processes):
            yield checksum


def _write_scene(root: Path, seed: int, item: tuple[str, ScenePlan]) -> int:
    """Render and write a scene; return the checksum of its samples."""
    path, scene = item
    waveform = render_scene(scene, seed)
    write_ogg(root / path, waveform, SAMPLE_RATE)
    return zlib.crc32(waveform.tobytes())
