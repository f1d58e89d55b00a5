"""Make the golden windows of a bundle: choose held-out windows and compute torch's logits.

An exported network is compared with them before it is written.

Shapes: W windows, T samples.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from birdmix.audio.audio_file import AudioError
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.find_recordings import find_recordings
from birdmix.bundle.golden_storage import GOLDEN_FILE, NUM_GOLDEN, GoldenWindows, write_golden
from birdmix.bundle.manifest import Manifest, read_manifest, write_bundle_file_list
from birdmix.engines.torch_engine import TorchEngine
from birdmix.frontend.log_mel_numpy import NumpyLogMel
from birdmix.loading.run_data import RunData
from birdmix.ownership import foreign_file_reason, refuse_with_reason
from birdmix.windows import MIN_TAIL_SECONDS, extract_padded, window_starts


def create_golden_file(bundle: Path, windows: np.ndarray) -> None:
    """Compute log-mels and torch's logits of windows, and write them into the bundle.

    Args:
        bundle: The bundle's folder.
        windows: Waveforms, float32 [W, T].

    Raises:
        ValueError: If the log-mels or logits of a window are not finite.
    """
    manifest = read_manifest(bundle)
    inputs = NumpyLogMel(manifest.log_mel)(windows).astype(np.float16)
    # On a CPU: GPUs round to fewer bits than an export is compared with.
    engine = TorchEngine(bundle, manifest, device="cpu")
    outputs = [engine.infer(torch.from_numpy(window[None]).float()) for window in inputs]
    frames = [output.frame_logits for output in outputs if output.frame_logits is not None]
    logits = np.concatenate([output.logits for output in outputs])
    golden = GoldenWindows(inputs, logits, np.concatenate(frames) if frames else None)
    if golden.non_finite_arrays:
        what = "log-mels, in 16 bits," if "inputs" in golden.non_finite_arrays else "logits"
        raise ValueError(
            f"{bundle}: the {what} of its golden windows are not finite, so no export can be "
            "compared with them; look for broken recordings with birdmix doctor"
        )
    write_golden(bundle, golden)


def replace_golden_windows_from_folder(bundle: Path, recordings: Path) -> None:
    """Replace the golden windows of a bundle by windows of the recordings below a folder.

    Raises:
        ValueError: If the folder holds no readable recording, or birdmix did not write the file.
    """
    manifest = read_manifest(bundle)
    write_bundle_file_list(bundle)
    refuse_with_reason(bundle / GOLDEN_FILE, foreign_file_reason(bundle / GOLDEN_FILE))
    create_golden_file(bundle, first_window_of_each_recording(recordings, manifest))


def held_out_windows(data: RunData, num_samples: int, sample_rate: int) -> np.ndarray:
    """Return windows of held-out recordings, or of training ones if none are held out.

    Args:
        data: The run's data.
        num_samples: Length T of a window in samples.
        sample_rate: In Hz.

    Returns:
        At most ``NUM_GOLDEN`` waveforms, evenly spread over the recordings, float32 [W, T].
    """
    tables = list(data.validation.values()) or [data.train]
    files = np.unique(np.concatenate([data.store.file_numbers_of_rows(table) for table in tables]))
    chosen_files = files[_evenly_spaced(len(files))].tolist()
    min_tail = int(MIN_TAIL_SECONDS * sample_rate)
    keys = [
        (file, start)
        for file in chosen_files
        for start in window_starts(
            int(data.store.lengths[file]), num_samples, num_samples, min_tail
        ).tolist()
    ]
    chosen = [keys[index] for index in _evenly_spaced(len(keys))]
    return np.stack(
        [
            extract_padded(data.store.read(file, start, num_samples), 0, num_samples)
            for file, start in chosen
        ]
    )


def first_window_of_each_recording(folder: Path, manifest: Manifest) -> np.ndarray:
    """Return the first window of recordings below a folder, float32 [W, T].

    Raises:
        ValueError: If the folder holds no readable recording.
    """
    paths = find_recordings(folder)
    files = [folder / paths[index] for index in _evenly_spaced(len(paths))]
    windows = list(_first_windows(files, manifest))
    if not windows:
        raise ValueError(f"{folder}: no recordings to make golden windows of; name another folder")
    return np.stack(windows)


def _first_windows(files: Sequence[Path], manifest: Manifest) -> Iterator[np.ndarray]:
    for file in files:
        try:
            block = next(iter(DecodedBlocks(file, manifest.log_mel.sample_rate)))
        except AudioError:
            continue  # other recordings will do
        yield extract_padded(block, 0, manifest.samples_per_window)


def _evenly_spaced(count: int) -> np.ndarray:
    """Return at most ``NUM_GOLDEN`` evenly spaced indices below ``count``, int64."""
    return np.linspace(0, count - 1, min(count, NUM_GOLDEN)).astype(int)
