"""Prediction of one recording by one or several models.

Shapes: W windows, C classes; in a batch N contexts of T samples, K of them for a window.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from birdmix.audio.audio_file import AudioError
from birdmix.audio.decode import DecodedBlocks
from birdmix.audio.start_time import read_start_time
from birdmix.engines.engine_interface import Engine
from birdmix.inference.ensemble import (
    DEFAULT_THRESHOLD,
    combine_recording_logits,
    mean_thresholds,
    union_of_labels,
)
from birdmix.inference.recording_pipeline import (
    EngineGroup,
    NanLogitsError,
    RecordingPipeline,
    group_engines_by_sample_rate,
)
from birdmix.inference.recording_predictions import PredictionLayout, RecordingPredictions
from birdmix.inference.settings import PredictSettings
from birdmix.inference.window_logits import WindowLogits
from birdmix.labels import Labels
from birdmix.messages import first_few

# Batches in the queue for each inference thread, with the one that it computes.
_QUEUE_LENGTH = 2

# Longer blocks would not stay in a processor's cache, and the system would map new pages for each:
# a tenth of the time for 48 kHz WAV.
_BLOCK_SECONDS = 5.0


class PredictionStopped(Exception):  # noqa: N818 - an orderly stop, not an error
    """The predictor was closed while a recording was being predicted."""


class SampleBlocks(Protocol):
    """Interface of the samples of a recording: mono blocks, float32, in order."""

    @property
    def problems(self) -> Sequence[object]:
        """Problems of the recording, once all blocks were read."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the blocks."""


class PredictsRecording(Protocol):
    """Interface of what predicts recordings: ``RecordingPredictor``, fallbacks of kaggle."""

    def predict(
        self, folder: Path, path: str, on_decoded: Callable[[float], None] | None = None
    ) -> RecordingPredictions:
        """Predict one recording."""

    def num_bytes_of_logits(self, seconds: float) -> int:
        """Return the bytes of memory that the logits of a recording take, given its seconds."""

    def close(self) -> None:
        """Stop all work."""


class RecordingPredictor:
    """One or several models that predict recordings; decoding and inference overlap, in threads.

    Args:
        engines: The models.
        settings: How they are run.

    Attributes:
        layout: Labels, windows and models of all predictions; the labels are those of all models.
        groups: Engines that share model inputs, by sample rate in Hz.
        batch_size: Contexts in a batch.
        stopping: Set when the predictor is closed.

    Raises:
        ValueError: If models and settings do not fit each other.
    """

    def __init__(self, engines: Sequence[Engine], settings: PredictSettings) -> None:
        self.engines, self.settings = engines, settings
        manifests = [engine.manifest for engine in engines]
        window = settings.window or _common_window(engines)
        labels = union_of_labels(manifests)
        self.layout = PredictionLayout(
            labels,
            window,
            settings.hop or window,
            len(engines) if settings.combine == "rank" else None,
            settings.last_window,
            mean_thresholds(manifests, labels),
        )
        self.groups = group_engines_by_sample_rate(engines, settings, window, self.layout.hop)
        num_threads = max(engine.num_threads for engine in engines)
        self.batch_size = min(engine.batch_size for engine in engines)
        self.stopping = threading.Event()
        self._threads = ThreadPoolExecutor(num_threads, "inference")
        self._queue_slots = threading.Semaphore(_QUEUE_LENGTH * num_threads)

    @property
    def labels(self) -> Labels:
        """The species of all models."""
        return self.layout.labels

    def __enter__(self) -> "RecordingPredictor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; calls of ``predict`` in other threads raise ``PredictionStopped``."""
        self.stopping.set()
        self._threads.shutdown(cancel_futures=True)

    def predict(
        self, folder: Path, path: str, on_decoded: Callable[[float], None] | None = None
    ) -> RecordingPredictions:
        """Predict one recording. Memory is bounded but for the logits of its windows.

        Several threads may call it, each with its own recording.

        Args:
            folder: Folder of the recordings.
            path: The recording, relative to it.
            on_decoded: Called with the seconds decoded so far.

        Returns:
            The windows' logits; with combine=rank those of each model, to be ranked when all
            recordings are predicted. Decoded at several sample rates, a recording is as long as the
            longest, and has the warnings of all.

        Raises:
            AudioError: If the recording cannot be decoded, or a model's logits are NaN.
            PredictionStopped: If the predictor is closed meanwhile.
        """
        file = Path(folder) / path
        clock = read_start_time(file)  # before decoding, during which the file may vanish

        def open_blocks(sample_rate: int) -> SampleBlocks:
            return DecodedBlocks(file, sample_rate, _BLOCK_SECONDS, self.settings.channel)

        try:
            predictions = self.predict_blocks(open_blocks, on_decoded)
        except NanLogitsError as error:
            raise AudioError(file, self.describe(error)) from error
        warning = "; ".join(filter(None, [predictions.warning, clock.problem]))
        return replace(predictions, path=path, recorded_at=clock.moment, warning=warning)

    def predict_blocks(
        self,
        open_blocks: Callable[[int], "SampleBlocks"],
        on_decoded: Callable[[float], None] | None = None,
    ) -> RecordingPredictions:
        """Predict a recording from its samples; it has no path and no time.

        Args:
            open_blocks: Returns the samples at a sample rate in Hz.
            on_decoded: Called with the seconds decoded so far.

        Raises:
            NanLogitsError: If a model's logits are NaN.
            PredictionStopped: If the predictor is closed meanwhile.
        """
        logits: dict[int, WindowLogits] = {}
        decoded = seconds = 0.0
        problems: list[str] = []
        for sample_rate, groups in self.groups.items():
            blocks = open_blocks(sample_rate)
            pipelines = [
                RecordingPipeline(group, self.labels, self.batch_size, self.submit_batch)
                for group in groups
            ]
            for block in blocks:
                for pipeline in pipelines:
                    pipeline.push(block)
                decoded += len(block) / sample_rate / len(self.groups)
                if on_decoded:
                    on_decoded(decoded)
            for pipeline in pipelines:
                pipeline.end()
                logits |= zip(pipeline.group.members, pipeline.logits, strict=True)
            seconds = max(seconds, pipelines[0].stream.num_samples / sample_rate)
            problems += map(str, blocks.problems)
        models = [logits.pop(member) for member in range(len(self.engines))]
        combined = combine_recording_logits(models, self.settings.combine, self.settings.power)
        warning = "; ".join(dict.fromkeys(problems))
        return self.layout.build("", combined, seconds=seconds, recorded_at=None, warning=warning)

    def describe(self, error: NanLogitsError) -> str:
        """Return which bundle's logits are NaN."""
        engine = self.engines[error.member].name
        return f"its logits by bundle {error.member + 1} of {len(self.engines)} ({engine}) are NaN"

    def detection_thresholds(self, threshold: float | None) -> np.ndarray:
        """Return the probability from which each class is detected, float64 [C], NaN for never.

        Args:
            threshold: One for all classes; None is the bundles' own.

        Raises:
            ValueError: If it is None and the models are combined by rank.
        """
        if threshold is not None:
            return np.full(len(self.labels), threshold)
        if self.settings.combine == "rank":
            raise ValueError(
                f"--combine rank: the bundles' thresholds do not apply to ranks; set one, "
                f"--threshold {DEFAULT_THRESHOLD} for example"
            )
        if self.layout.thresholds is None:
            warnings.warn(
                f"the bundles have no thresholds: species are detected from a probability of "
                f"{DEFAULT_THRESHOLD}",
                stacklevel=2,
            )
            return np.full(len(self.labels), DEFAULT_THRESHOLD)
        return self.layout.thresholds

    def num_bytes_of_logits(self, seconds: float) -> int:
        """Return the bytes of memory that the logits of a recording take, given its seconds."""
        num_windows = int(seconds / self.layout.hop) + 1
        return 4 * num_windows * len(self.labels) * len(self.engines)

    def submit_batch(
        self, group: EngineGroup, contexts: np.ndarray, shift_indices: list[int]
    ) -> Future:
        """Queue a batch for inference; waits while the queue is full.

        Args:
            group: Engines that take the same model inputs.
            contexts: Waveforms of the contexts, float32 [N, T].
            shift_indices: For each context, which of the K contexts of its window it is.

        Returns:
            The logits of each engine, float32 [N, C] each, once they are computed.

        Raises:
            PredictionStopped: If the predictor is closed.
        """
        while not self._queue_slots.acquire(timeout=0.2):
            if self.stopping.is_set():
                raise PredictionStopped("the predictor was closed")
        if self.stopping.is_set():
            raise PredictionStopped("the predictor was closed")
        future = self._threads.submit(
            group.infer, contexts, shift_indices, self.settings.frame_pooling
        )
        future.add_done_callback(lambda _: self._queue_slots.release())
        return future


def _common_window(engines: Sequence[Engine]) -> float:
    lengths = sorted({engine.manifest.segment_seconds for engine in engines})
    if len(lengths) > 1:
        several = first_few([f"{length:g}" for length in lengths])
        raise ValueError(
            f"the bundles were trained on segments of {several} s: set the length of a window, "
            f"--window {lengths[0]:g} for example; each bundle then gets a context of its own "
            "length"
        )
    return lengths[0]
