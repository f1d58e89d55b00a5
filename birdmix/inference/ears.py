"""Ears: which engines hear the same windows of a recording, and what they say of them.

Shapes: W windows, C classes.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from birdmix.inference.engine import Engine
from birdmix.inference.grid import Grid
from birdmix.inference.rows import pooled
from birdmix.inference.settings import ListenSettings


@dataclass(frozen=True)
class Ear:
    """Engines that take each other's pictures, of windows of one length.

    Attributes:
        grid: The windows.
        members: Numbers of the engines.
        engines: The engines.
        limits: How many threads may call each of them.
    """

    grid: Grid
    members: list[int] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)
    limits: list[threading.Semaphore] = field(default_factory=list)

    def add(self, member: int, engine: Engine) -> None:
        """Let one more engine hear."""
        self.members.append(member)
        self.engines.append(engine)
        self.limits.append(threading.Semaphore(engine.side_by_side))

    def judge(self, windows: list[np.ndarray], which: list[int], pool: str) -> list[np.ndarray]:
        """Return what each engine says of some windows, float32 [W, C]; threads may call it."""
        with self.limits[0]:
            pictures = self.engines[0].hear(np.stack(windows))
        scores = []
        for engine, limit in zip(self.engines, self.limits, strict=True):
            with limit:
                heard = engine.judge(pictures)
            scores.append(pooled(heard, which, self.grid, pool))
        return scores


def ears_of(
    engines: Sequence[Engine], settings: ListenSettings, window: float, step: float
) -> dict[int, list[Ear]]:
    """Return who listens, by sample rate: one decoding serves all of a rate.

    Args:
        engines: The models.
        settings: How they listen.
        window: Length of a row in seconds.
        step: Seconds from one row to the next.

    Raises:
        ValueError: If an engine does not hear what the settings ask for.
    """
    ears: dict[tuple, Ear] = {}
    for member, engine in enumerate(engines):
        log_mel = engine.manifest.log_mel
        context = settings.context or engine.manifest.segment_seconds
        log_mel.check_window(context, f"--context {context:g}")
        heard = log_mel.num_samples(context)
        _check_hears(engine, settings, window, context)
        grid = Grid.of(
            log_mel.sample_rate,
            row=window,
            step=step,
            heard=heard,
            shift=settings.shift,
            shared=settings.pool == "clip",
        )
        ears.setdefault((log_mel.sample_rate, heard, engine.ear), Ear(grid)).add(member, engine)
    by_rate: dict[int, list[Ear]] = {}
    for (sample_rate, *_), ear in ears.items():
        by_rate.setdefault(sample_rate, []).append(ear)
    return by_rate


def _check_hears(engine: Engine, settings: ListenSettings, window: float, context: float) -> None:
    model, log_mel = engine.manifest.model, engine.manifest.log_mel
    if context < window:
        raise ValueError(
            f"rows of {window:g} s of which {context:g} s are heard; take --context {window:g}, "
            "or rows that are no longer"
        )
    if engine.num_samples not in (None, log_mel.num_samples(context)):
        length = engine.num_samples / log_mel.sample_rate
        raise ValueError(
            f"--context {context:g}: the exported network hears {length:g} s, nothing else; "
            "leave it out, or take --engine torch"
        )
    if settings.pool != "clip" and model.head != "sed":
        raise ValueError(
            f"--pool {settings.pool}: model.head={model.head} hears no frames (sed does); "
            "take --pool clip"
        )
