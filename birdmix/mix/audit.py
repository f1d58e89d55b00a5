"""What mixing did over an epoch, in figures: nobody has to believe it.

Plans are counted on the host; what depends on data is added up on their device, and only read when
someone asks.

Shapes: B batch, C classes, T last axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.plan import Plan

_BINS = 100
_QUANTILES = (10, 50, 90)
_SUMS = ("label_mass_in", "label_mass_out", "clipped", "nonfinite")


class Audit:
    """The books of an epoch's mixes.

    Args:
        slots: Names of the operators that are switched on.
    """

    def __init__(self, slots: Sequence[str]) -> None:
        self.slots = tuple(slots)
        self.restart()

    def restart(self) -> None:
        """Begin an epoch."""
        self.samples = 0
        self.self_pairs = 0
        self.mixed = dict.fromkeys(self.slots, 0)
        self.sources = dict.fromkeys(self.slots, 0)
        self.own_parts = {slot: np.zeros(_BINS + 1, np.int64) for slot in self.slots}
        self.sums: Tensor | None = None

    def enter(
        self,
        plans: Mapping[str, Plan],
        target: Tensor,
        mixed_target: Tensor,
        shape: tuple[int, ...],
        peak: Tensor,
        finite: Tensor,
    ) -> None:
        """Enter a batch.

        Args:
            plans: Its plan in each slot.
            target: Targets before any mix, [B, C].
            mixed_target: Targets after all mixes, [B, C].
            shape: Of the tensors that plans with boxes were applied to, [B, ..., T].
            peak: Largest absolute value of each mixed waveform, [B]; beyond 1 it clips.
            finite: Which mixed samples hold finite numbers only, bool [B].
        """
        self.samples += len(target)
        for slot, plan in plans.items():
            mixed = plan.num_sources > 1
            self.mixed[slot] += int(mixed.sum())
            self.sources[slot] += int(plan.num_sources.sum())
            self.self_pairs += plan.num_self_pairs
            own = np.rint(plan.parts(shape)[mixed, 0] * _BINS).astype(int)
            self.own_parts[slot] += np.bincount(own, minlength=_BINS + 1)
        sums = torch.stack(
            [target.sum(), mixed_target.sum(), (peak > 1).sum().float(), (~finite).sum().float()]
        )
        self.sums = sums if self.sums is None else self.sums + sums

    def report(self) -> dict[str, float]:
        """Return the epoch's figures, by the names they have in a run's ``metrics.csv``.

        For each slot: ``fired``, the share of samples that it mixed; ``sources``, their mean number
        over all samples; ``lambda_p10`` and so on, quantiles of the part that a mixed sample kept
        of itself (nan if none was mixed). Then counts of self-pairs, of clipped samples (peak above
        1) and of samples that were not finite; and the mean sum of labels before and after.
        """
        figures: dict[str, float] = {}
        samples = max(self.samples, 1)
        for slot in self.slots:
            figures[f"mix_{slot}_fired"] = self.mixed[slot] / samples
            figures[f"mix_{slot}_sources"] = self.sources[slot] / samples
            for quantile in _QUANTILES:
                figures[f"mix_{slot}_lambda_p{quantile}"] = _quantile(
                    self.own_parts[slot], quantile / 100
                )
        sums = dict(zip(_SUMS, self._sums(), strict=True))
        figures["mix_self_pairs"] = self.self_pairs
        for name in ("clipped", "nonfinite"):
            figures[f"mix_{name}"] = sums[name]
        for name in ("label_mass_in", "label_mass_out"):
            figures[f"mix_{name}"] = sums[name] / samples
        return figures

    def _sums(self) -> list[float]:
        return [0.0] * len(_SUMS) if self.sums is None else self.sums.tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return the books as plain numbers."""
        return {
            "samples": self.samples,
            "self_pairs": self.self_pairs,
            "mixed": dict(self.mixed),
            "sources": dict(self.sources),
            "own_parts": {slot: counts.tolist() for slot, counts in self.own_parts.items()},
            "sums": self._sums(),
        }

    @staticmethod
    def merged(books: Sequence[dict[str, Any]]) -> "Audit":
        """Add up books that ``state_dict`` returned, one of each process."""
        whole = Audit(list(books[0]["mixed"]))
        for each in books:
            whole.samples += each["samples"]
            whole.self_pairs += each["self_pairs"]
            for slot in whole.slots:
                whole.mixed[slot] += each["mixed"][slot]
                whole.sources[slot] += each["sources"][slot]
                whole.own_parts[slot] += np.array(each["own_parts"][slot], np.int64)
        whole.sums = torch.tensor([each["sums"] for each in books], dtype=torch.float64).sum(dim=0)
        return whole

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go back to books that ``state_dict`` returned."""
        self.samples, self.self_pairs = state["samples"], state["self_pairs"]
        self.mixed, self.sources = dict(state["mixed"]), dict(state["sources"])
        self.own_parts = {
            slot: np.array(counts, np.int64) for slot, counts in state["own_parts"].items()
        }
        self.sums = torch.tensor(state["sums"], device=device)


def _quantile(counts: np.ndarray, share: float) -> float:
    """Return the value in [0, 1] below which a share of a histogram's counts lies."""
    total = counts.sum()
    if not total:
        return float("nan")
    return int(np.searchsorted(np.cumsum(counts), share * total)) / _BINS
