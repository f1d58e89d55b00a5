"""A row of a comparison: one arm beside the control, on one test set, stratum and metric.

The console table, the CSV file, the forest plot and the page all show these rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from birdmix.metrics.paired_statistics import MIN_GROUPS, SIGNIFICANCE, Method

Verdict = Literal[
    "control", "better", "worse", "differs", "no difference shown", "no interval", "undefined"
]


@dataclass(frozen=True)
class ComparisonRow:
    """One arm on one test set, stratum and metric.

    Attributes:
        test_set: Name of the test set.
        stratum: Name of the part of the test set, such as "all" or "2 sources".
        metric: Name of the metric.
        metric_title: Its name in tables and figures.
        better: Whether higher or lower values are better; None if either may be wrong.
        arm: Name of the arm.
        is_control: Whether the arm is the control.
        value: The metric of the arm; NaN if undefined.
        control_value: The metric of the control.
        difference: Arm minus control; NaN for the control.
        low: Lower end of the interval of the difference, NaN if there is none.
        high: Upper end.
        p: p-value of the difference, NaN if there is none.
        p_holm: The same after Holm's correction for the number of arms.
        num: Number of replicates or groups behind the interval.
        method: How the interval was computed.
    """

    test_set: str
    stratum: str
    metric: str
    metric_title: str
    better: Literal["higher", "lower"] | None
    arm: str
    is_control: bool
    value: float
    control_value: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    num: int
    method: Method

    @property
    def verdict(self) -> Verdict:
        """What the row shows, by the adjusted p-value and the direction that is better."""
        if self.is_control:
            return "control"
        if np.isnan(self.difference):
            return "undefined"
        if np.isnan(self.p_holm):
            return "no interval"
        if self.p_holm >= SIGNIFICANCE:
            return "no difference shown"
        if self.better is None:
            return "differs"
        return "better" if (self.difference > 0) == (self.better == "higher") else "worse"


def statistics_statement(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the statistics behind rows in plain words, one paragraph each."""
    paragraphs = []
    methods = {row.method for row in rows}
    if "student" in methods:
        paragraphs.append(
            "Replicates: an arm and the control of one replicate have the same data, seeds and "
            "optimizer steps, so what makes a replicate easy or hard cancels in their difference. "
            "The difference is the mean over replicates, with Student's 95 % interval. The "
            "interval is about new replicates: other data of the same kind, and other seeds. A "
            "single replicate has no interval: it cannot tell a difference from chance."
        )
    if methods & {"bootstrap", "jackknife"}:
        paragraphs.append(
            "Groups: the predictions of all held-out folds are pooled, the metric is computed for "
            "each training seed and averaged over seeds. Recordings of one group (a recordist, or "
            "the source of clips) are alike, so that an interval is about new groups, not about "
            "new rows; folds are not treated as independent. It is for the networks that were "
            "trained: how much other training seeds would change is not in it. Fewer than "
            f"{MIN_GROUPS} groups have no interval."
        )
    if "bootstrap" in methods:
        paragraphs.append(
            "Bootstrap: whole groups are drawn again with replacement, the same ones for the arm "
            "and for the control. The 95 % interval is that of the percentiles, widened for few "
            "groups (Hesterberg 2015)."
        )
    if "jackknife" in methods:
        paragraphs.append(
            "Jackknife, for mixtures of recordings of several groups: how much each group moves "
            "the difference, by all mixtures it has a part in, gives the 95 % interval (the "
            "infinitesimal jackknife with Student's t). As a mixture counts for each of its "
            "groups, intervals are rather too wide than too narrow."
        )
    paragraphs.append(
        "Many arms: one of twenty comparisons of equal arms has a p-value below 0.05 by chance. "
        "p (Holm) is corrected for the number of arms with the same test set, stratum and metric, "
        "and only it decides between better, worse and no difference shown. It is not corrected "
        "for several metrics, strata and test sets: the first table is what was to be shown, the "
        "others say where a difference comes from. The intervals are for one arm at a time."
    )
    paragraphs.append(
        "No difference shown does not mean that there is none: the interval says how large it "
        "could be."
    )
    return paragraphs
