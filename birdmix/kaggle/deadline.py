"""Deadline of a submission: estimates the time needed, falls back to faster prediction, stops."""

import math
import time
from collections.abc import Callable

from birdmix.inference.predict_files import Progress, RecordingJob
from birdmix.kaggle.fallback_plan import FallbackPlan
from birdmix.kaggle.settings import DeadlineSettings

# Share of the limit after which a variant's speed counts as known.
_SPEED_KNOWN_AFTER = 0.02

# Reserve for the recordings that are being predicted at the end: seconds, and share of the limit.
_RESERVE_SECONDS, _RESERVE_SHARE = 3.0, 0.01

# The final write may take this many times as long as the one before.
_WRITE_MARGIN = 3


class OutOfTime(Exception):  # noqa: N818 - an orderly end, not an error
    """The deadline is reached."""


class Deadline:
    """Checks the time during prediction; called with the progress several times a second.

    Args:
        settings: The limit, and whether to fall back to faster prediction in order to meet it.
        plan: The variants of prediction.
        report: Prints a line.

    Attributes:
        write_seconds: Seconds that writing the file takes.
    """

    def __init__(
        self, settings: DeadlineSettings, plan: FallbackPlan, report: Callable[[str], None]
    ) -> None:
        self.settings, self.plan, self.report = settings, plan, report
        self.limit = settings.limit_seconds
        self.write_seconds = 0.0
        self._has_reported = False
        self._variant_start: tuple[float, int] | None = None  # seconds, and bytes done until then
        self._previous_jobs: list[RecordingJob] = []  # those running when the variant changed

    def __call__(self, progress: Progress) -> None:
        """Check the time; report the estimate, and change to a faster variant if needed.

        Raises:
            OutOfTime: If the deadline is reached.
        """
        if self.limit == math.inf:
            return
        now, limit = time.monotonic() - self.settings.started_at, self.limit
        reserve = max(_RESERVE_SECONDS, _RESERVE_SHARE * limit)
        end = limit - reserve - _WRITE_MARGIN * self.write_seconds
        if now >= end:
            raise OutOfTime
        if any(job in progress.running for job in self._previous_jobs):
            return
        if self._variant_start is None:
            self._variant_start = now, progress.bytes_done
        since, bytes_before = self._variant_start
        num_bytes = progress.bytes_done - bytes_before
        if now - since < _SPEED_KNOWN_AFTER * limit or not num_bytes:
            return
        needed = now + (progress.num_bytes - progress.bytes_done) * (now - since) / num_bytes
        in_time = needed <= end
        if not in_time and (dropped := self.settings.degrade and self.plan.fall_back()):
            self.report(f"{_estimate(needed, limit)}: too slow; continuing without {dropped}")
            started = [job for job in progress.running if job.seconds]
            self._variant_start, self._previous_jobs = None, started
            self._has_reported = False
        elif not self._has_reported:
            self._has_reported = True
            verdict = "in time" if in_time else self._too_slow()
            self.report(f"{_estimate(needed, limit)}: {verdict}")

    def _too_slow(self) -> str:
        remedy = "no faster variant is left"
        if not self.settings.degrade and len(self.plan.variants) > 1:
            remedy = "--degrade predicts more of them"
        return f"too slow; soundscapes that are not reached keep the prior ({remedy})"


def _estimate(needed: float, limit: float) -> str:
    return f"estimated time {format_duration(needed)} of {format_duration(limit)}"


def format_duration(seconds: float) -> str:
    """Return a duration in words: ``12 s``, ``7.5 min``, ``90 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 600 else f"{seconds / 60:.0f} min"
