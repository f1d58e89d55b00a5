"""Statistics of an epoch's mixes: how often, of how many sources, how strongly, and clipping.

Plans are counted on the host. Sums of data are kept on the device of the data and are read only by
``compute`` and ``state_dict``.

Shapes: B batch, C classes, T last axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from birdmix.mix.mix_plan import Plan

_NUM_BINS = 100
_PERCENTILES = (10, 50, 90)
_SUM_NAMES = ("label_mass_in", "label_mass_out", "clipped", "nonfinite")


class MixStats:
    """Counters and sums over the mixed batches of an epoch.

    Args:
        operator_names: Names of the enabled operators.
        hidden_layers: Layers at which the operator ``hidden`` mixes, to count them one by one.
    """

    def __init__(self, operator_names: Sequence[str], hidden_layers: Sequence[str] = ()) -> None:
        self.operator_names, self.hidden_layers = tuple(operator_names), tuple(hidden_layers)
        self.reset()

    def new(self) -> "MixStats":
        """Return other statistics of the same operators and layers, all 0."""
        return MixStats(self.operator_names, self.hidden_layers)

    def reset(self) -> None:
        """Set all counters to 0, at the start of an epoch."""
        self.num_examples = 0
        self.num_self_pairs = 0
        self.num_unfit_partners = 0
        self.num_mixed = dict.fromkeys(self.operator_names, 0)
        self.num_sources = dict.fromkeys(self.operator_names, 0)
        self.num_mixed_at_layer = dict.fromkeys(self.hidden_layers, 0)
        # Histograms of the part that mixed examples keep of themselves.
        self.own_part_counts = {
            name: np.zeros(_NUM_BINS + 1, np.int64) for name in self.operator_names
        }
        self.sums: Tensor | None = None

    def update(
        self,
        plans: Mapping[str, Plan],
        target: Tensor,
        mixed_target: Tensor,
        shape: tuple[int, ...],
        peak: Tensor,
        finite: Tensor,
        hidden_layer: str | None = None,
    ) -> None:
        """Count the mixes of a batch.

        Args:
            plans: The batch's plan for each operator.
            target: Targets before any mix, [B, C].
            mixed_target: Targets after all mixes, [B, C].
            shape: Shape of the tensors that plans with boxes were applied to, [B, ..., T].
            peak: Largest absolute value of each mixed waveform, [B]; above 1 it clips.
            finite: Which mixed examples hold finite numbers only, bool [B].
            hidden_layer: Layer that ``hidden`` mixed.
        """
        self.num_examples += len(target)
        for name, plan in plans.items():
            mixed = plan.source_counts > 1
            self.num_mixed[name] += int(mixed.sum())
            self.num_sources[name] += int(plan.source_counts.sum())
            self.num_self_pairs += plan.num_self_pairs
            self.num_unfit_partners += plan.num_unfit
            if name == "hidden" and hidden_layer in self.num_mixed_at_layer:
                self.num_mixed_at_layer[hidden_layer] += int(mixed.sum())
            own_bins = np.rint(plan.source_fractions(shape)[mixed, 0] * _NUM_BINS).astype(int)
            self.own_part_counts[name] += np.bincount(own_bins, minlength=_NUM_BINS + 1)
        sums = torch.stack(
            [
                target.sum(),
                mixed_target.sum(),
                (peak > 1).sum(dtype=torch.float32),
                (~finite).sum(dtype=torch.float32),
            ]
        )
        self.sums = sums if self.sums is None else self.sums + sums

    def compute(self) -> dict[str, float]:
        """Return the epoch's statistics, by their column names in a run's ``metrics.csv``.

        For each operator: ``rate``, the fraction of examples that it mixed; ``sources``, their
        mean number of sources over all examples; ``lambda_p10``, ``lambda_p50``, ``lambda_p90``,
        percentiles of the part that a mixed example keeps of itself (NaN if none was mixed). For
        each counted layer: ``hidden_LAYER_rate``, the fraction of examples that were mixed there.
        Then the numbers of self-pairs, of partners that did not fit (``partners``), of clipped
        examples (peak above 1) and of non-finite examples, and the mean sum of labels per example
        before and after mixing.
        """
        statistics: dict[str, float] = {}
        num_examples = max(self.num_examples, 1)
        for name in self.operator_names:
            statistics[f"mix_{name}_rate"] = self.num_mixed[name] / num_examples
            statistics[f"mix_{name}_sources"] = self.num_sources[name] / num_examples
            for percentile in _PERCENTILES:
                statistics[f"mix_{name}_lambda_p{percentile}"] = _quantile(
                    self.own_part_counts[name], percentile / 100
                )
        for layer, num_mixed in self.num_mixed_at_layer.items():
            statistics[f"mix_hidden_{layer}_rate"] = num_mixed / num_examples
        sums = dict(zip(_SUM_NAMES, self._read_sums(), strict=True))
        statistics["mix_self_pairs"] = self.num_self_pairs
        statistics["mix_unfit_partners"] = self.num_unfit_partners
        for name in ("clipped", "nonfinite"):
            statistics[f"mix_{name}"] = sums[name]
        for name in ("label_mass_in", "label_mass_out"):
            statistics[f"mix_{name}"] = sums[name] / num_examples
        return statistics

    def _read_sums(self) -> list[float]:
        return [0.0] * len(_SUM_NAMES) if self.sums is None else self.sums.tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return all counters as plain numbers and lists."""
        return {
            "samples": self.num_examples,
            "self_pairs": self.num_self_pairs,
            "unfit_partners": self.num_unfit_partners,
            "mixed": dict(self.num_mixed),
            "sources": dict(self.num_sources),
            "mixed_at_layer": dict(self.num_mixed_at_layer),
            "own_parts": {name: counts.tolist() for name, counts in self.own_part_counts.items()},
            "sums": self._read_sums(),
        }

    @staticmethod
    def merge(states: Sequence[dict[str, Any]]) -> "MixStats":
        """Return the statistics of several processes together.

        Args:
            states: The ``state_dict`` of each process, one or more, of the same operators.
        """
        total = MixStats(list(states[0]["mixed"]), list(states[0]["mixed_at_layer"]))
        for state in states:
            total.num_examples += state["samples"]
            total.num_self_pairs += state["self_pairs"]
            total.num_unfit_partners += state["unfit_partners"]
            for name in total.operator_names:
                total.num_mixed[name] += state["mixed"][name]
                total.num_sources[name] += state["sources"][name]
                total.own_part_counts[name] += np.array(state["own_parts"][name], np.int64)
            for layer in total.hidden_layers:
                total.num_mixed_at_layer[layer] += state["mixed_at_layer"][layer]
        sums = torch.tensor([state["sums"] for state in states], dtype=torch.float64)
        total.sums = sums.sum(dim=0)
        return total

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore the counters that ``state_dict`` returned.

        Args:
            state: The counters.
            device: Device of the batches that will be added.
        """
        self.num_examples, self.num_self_pairs = state["samples"], state["self_pairs"]
        self.num_unfit_partners = state["unfit_partners"]
        self.num_mixed, self.num_sources = dict(state["mixed"]), dict(state["sources"])
        self.num_mixed_at_layer = dict(state["mixed_at_layer"])
        self.own_part_counts = {
            name: np.array(counts, np.int64) for name, counts in state["own_parts"].items()
        }
        self.sums = torch.tensor(state["sums"], device=device)


def _quantile(counts: np.ndarray, fraction: float) -> float:
    """Return the value in [0, 1] below which a fraction of a histogram's counts lies."""
    total = counts.sum()
    if not total:
        return float("nan")
    return int(np.searchsorted(np.cumsum(counts), fraction * total)) / _NUM_BINS
