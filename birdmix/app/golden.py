"""Golden windows of a bundle: held-out sound, and what torch says of it.

Shapes: W windows, T samples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from birdmix.app.data import Data
from birdmix.audio.decode import Blocks
from birdmix.audio.listing import find_recordings
from birdmix.audio.sound_file import AudioError
from birdmix.bundle.golden import NUM_GOLDEN, Golden, write_golden
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.inference.torch_engine import TorchEngine
from birdmix.windows import MIN_TAIL_SECONDS, cut, window_starts


def keep_golden(bundle: Path, windows: np.ndarray) -> None:
    """Write windows [W, T], and what a bundle's weights say of them, into the bundle.

    Raises:
        ValueError: If the log-mels or logits of a window are not finite.
    """
    manifest = read_manifest(bundle)
    pictures = NumpyLogMel(manifest.log_mel)(windows).astype(np.float16)
    # GPUs round to fewer bits than an export is held to.
    engine = TorchEngine(bundle, manifest, device="cpu")
    heard = [engine.judge(torch.from_numpy(each[None]).float()) for each in pictures]
    frames = [each.frames for each in heard if each.frames is not None]
    clip = np.concatenate([each.clip for each in heard])
    golden = Golden(pictures, clip, np.concatenate(frames) if frames else None)
    if golden.not_finite:
        what = "log-mels, in 16 bits," if "pictures" in golden.not_finite else "logits"
        raise ValueError(
            f"{bundle}: the {what} of its golden windows are not finite: no export can be held "
            "against them; look for odd recordings with birdmix doctor"
        )
    write_golden(bundle, golden)


def held_out_windows(data: Data, num_samples: int, sample_rate: int) -> np.ndarray:
    """Return windows of what is held out, or trained on where nothing is; float32 [W, T]."""
    tables = list(data.validation.values()) or [data.train]
    files = np.unique(np.concatenate([data.store.files_of(table) for table in tables]))
    few = files[_spread(len(files))].tolist()
    min_tail = int(MIN_TAIL_SECONDS * sample_rate)
    keys = [
        (file, start)
        for file in few
        for start in window_starts(
            int(data.store.lengths[file]), num_samples, num_samples, min_tail
        ).tolist()
    ]
    some = [keys[at] for at in _spread(len(keys))]
    return np.stack(
        [cut(data.store.read(file, start, num_samples), 0, num_samples) for file, start in some]
    )


def windows_of_folder(folder: Path, manifest: Manifest) -> np.ndarray:
    """Return the beginnings of recordings below a folder, float32 [W, T].

    Raises:
        ValueError: If the folder holds nothing that can be heard.
    """
    paths = find_recordings(folder)
    windows = list(_beginnings([folder / paths[at] for at in _spread(len(paths))], manifest))
    if not windows:
        raise ValueError(f"{folder}: no recordings to make golden windows of; name another folder")
    return np.stack(windows)


def _beginnings(paths: Sequence[Path], manifest: Manifest) -> Iterator[np.ndarray]:
    for path in paths:
        try:
            block = next(iter(Blocks(path, manifest.log_mel.sample_rate)))
        except AudioError:
            continue  # others will do
        yield cut(block, 0, manifest.num_samples)


def _spread(count: int) -> np.ndarray:
    """Return places of at most ``NUM_GOLDEN`` things among ``count``, evenly spread."""
    return np.linspace(0, count - 1, min(count, NUM_GOLDEN)).astype(int)
