"""The prediction of one recording: its blocks of samples to the logits of its windows.

Engines whose log-mels are equal form a group, which computes them once.

Shapes: N contexts of a batch, T samples, W windows, K contexts of a window, C classes.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from birdmix.engines.engine_interface import Engine
from birdmix.inference.settings import PredictSettings
from birdmix.inference.window_grid import ContextStream, WindowGrid
from birdmix.inference.window_logits import WindowLogits, pool_frames
from birdmix.labels import Labels

# Infinite logits are clipped to this: their probabilities are the same, and their means are finite.
_MAX_LOGIT = np.float32(1e4)


@dataclass(frozen=True)
class EngineGroup:
    """Engines that take the same model inputs, of contexts of one length.

    Attributes:
        grid: Windows and contexts.
        members: Indices of the engines among those of the ``RecordingPredictor``.
        engines: The engines.
        limits: For each of them, a semaphore of the threads that may call it at a time.
    """

    grid: WindowGrid
    members: list[int] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)
    limits: list[threading.Semaphore] = field(default_factory=list)

    def add_engine(self, member: int, engine: Engine) -> None:
        """Add an engine."""
        self.members.append(member)
        self.engines.append(engine)
        self.limits.append(threading.Semaphore(engine.num_threads))

    def infer(
        self, contexts: np.ndarray, shift_indices: list[int], frame_pooling: str
    ) -> list[np.ndarray]:
        """Compute each engine's logits of a batch, float32 [N, C]; several threads may call it.

        Args:
            contexts: Waveforms, float32 [N, T].
            shift_indices: For each context, which of the K contexts of its window it is.
            frame_pooling: clip, mean or max.
        """
        with self.limits[0]:
            inputs = self.engines[0].preprocess(contexts)
        logits = []
        for engine, limit in zip(self.engines, self.limits, strict=True):
            with limit:
                output = engine.infer(inputs)
            logits.append(pool_frames(output, shift_indices, self.grid, frame_pooling))
        return logits


def group_engines_by_sample_rate(
    engines: Sequence[Engine], settings: PredictSettings, window: float, hop: float
) -> dict[int, list[EngineGroup]]:
    """Group engines by their inputs, and the groups by sample rate: each rate is decoded once.

    Args:
        engines: The models.
        settings: How they are run.
        window: Length of a window in seconds.
        hop: Seconds from the start of a window to that of the next.

    Returns:
        The groups of each sample rate in Hz.

    Raises:
        ValueError: If the settings do not suit an engine.
    """
    groups: dict[tuple, EngineGroup] = {}
    for member, engine in enumerate(engines):
        log_mel = engine.manifest.log_mel
        context_seconds = settings.context or engine.manifest.segment_seconds
        log_mel.check_input_seconds(context_seconds, f"--context {context_seconds:g}")
        context = log_mel.seconds_to_num_samples(context_seconds)
        _check_engine(engine, settings, window, context_seconds)
        grid = WindowGrid.from_seconds(
            log_mel.sample_rate,
            window=window,
            hop=hop,
            context=context,
            shift=settings.shift,
            reuse=settings.frame_pooling == "clip",
            last_window=settings.last_window,
        )
        key = (log_mel.sample_rate, context, engine.input_key)
        groups.setdefault(key, EngineGroup(grid)).add_engine(member, engine)
    by_rate: dict[int, list[EngineGroup]] = {}
    for (sample_rate, *_), group in groups.items():
        by_rate.setdefault(sample_rate, []).append(group)
    return by_rate


def _check_engine(engine: Engine, settings: PredictSettings, window: float, context: float) -> None:
    """Check settings against an engine; window and context in seconds."""
    model, log_mel = engine.manifest.model, engine.manifest.log_mel
    if context < window:
        raise ValueError(
            f"--window {window:g}: longer than the context of {context:g} s; use --context "
            f"{window:g}, or a shorter window"
        )
    if engine.num_samples not in (None, log_mel.seconds_to_num_samples(context)):
        length = engine.num_samples / log_mel.sample_rate
        raise ValueError(
            f"--context {context:g}: the exported network takes {length:g} s only; leave it out, "
            "or use --engine torch"
        )
    if settings.frame_pooling != "clip" and not model.has_frame_logits:
        raise ValueError(
            f"--frame-pooling {settings.frame_pooling}: model.head={model.head} has no frame "
            "logits (sed has); use --frame-pooling clip"
        )


#: Starts the inference of a batch in a thread: contexts, and which of the K contexts each is.
Submit = Callable[[EngineGroup, np.ndarray, list[int]], Future]


class NanLogitsError(Exception):
    """A model gave logits that are NaN, which would be taken for a class that it does not have.

    Attributes:
        member: Index of the engine among those of the ``RecordingPredictor``.
    """

    def __init__(self, member: int) -> None:
        super().__init__(f"logits of engine {member} are NaN")
        self.member = member


class RecordingPipeline:
    """Predicts one recording with one input group: contexts, batches, threads, windows in order.

    Args:
        group: The engines.
        labels: The classes C of the logits.
        batch_size: Contexts in a batch.
        submit: Starts the inference of a batch.

    Attributes:
        logits: Each engine's logits of the windows so far.
    """

    def __init__(self, group: EngineGroup, labels: Labels, batch_size: int, submit: Submit) -> None:
        self.group, self.batch_size, self.submit = group, batch_size, submit
        self.stream = ContextStream(group.grid)
        model_labels = [engine.manifest.labels for engine in group.engines]
        self.logits = [WindowLogits(own, labels) for own in model_labels]
        self._contexts = self._new_batch()
        self._shift_indices: list[int] = []
        self._submitted: deque[Future] = deque()
        # Each engine's logits of the contexts that later windows need, and the first one's number.
        self._recent = [np.empty((0, len(own)), np.float32) for own in model_labels]
        self._first_recent = 0

    def push(self, block: np.ndarray) -> None:
        """Add a block of the recording.

        Args:
            block: Samples, float32, any number of them.

        Raises:
            NanLogitsError: If a model gives logits that are NaN.
        """
        self._add_contexts(self.stream.push(block))

    def end(self) -> None:
        """Predict the windows that reach beyond the end, and wait for all batches.

        Raises:
            NanLogitsError: If a model gives logits that are NaN.
        """
        self._add_contexts(self.stream.end())
        if self._shift_indices:
            self._submit_batch()
        while self._submitted:
            self._collect_batch()

    def _add_contexts(self, contexts: Iterator[tuple[np.ndarray, int]]) -> None:
        for context, k in contexts:
            self._contexts[len(self._shift_indices)] = context
            self._shift_indices.append(k)
            if len(self._shift_indices) == self.batch_size:
                self._submit_batch()

    def _new_batch(self) -> np.ndarray:
        """Return memory for the contexts of a batch, of which only what is used is allocated."""
        return np.empty((self.batch_size, self.group.grid.context), np.float32)

    def _submit_batch(self) -> None:
        contexts = self._contexts[: len(self._shift_indices)]
        self._submitted.append(self.submit(self.group, contexts, self._shift_indices))
        self._contexts, self._shift_indices = self._new_batch(), []
        while self._submitted and self._submitted[0].done():
            self._collect_batch()

    def _collect_batch(self) -> None:
        """Add the logits of the oldest batch, and average those of windows that are complete."""
        batch = self._submitted.popleft().result()
        for member, logits in zip(self.group.members, batch, strict=True):
            if np.isnan(logits).any():
                raise NanLogitsError(member)
        batch = [np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT) for logits in batch]
        self._recent = [np.concatenate(pair) for pair in zip(self._recent, batch, strict=True)]
        windows, end = self.stream.windows, self._first_recent + len(self._recent[0])
        complete = []
        while windows and max(windows[0]) < end:
            complete.append(windows.popleft())
        if not complete:
            return
        index = np.array(complete) - self._first_recent
        for logits, recent in zip(self.logits, self._recent, strict=True):
            logits.append(recent[index].mean(axis=1))
        oldest = min([end, self.stream.oldest_reusable_context, *map(min, windows)])
        self._recent = [recent[oldest - self._first_recent :] for recent in self._recent]
        self._first_recent = oldest
