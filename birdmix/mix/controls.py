"""Controls: runs that show what a mix adds, by everything else that it changes.

no_mixing: no example is mixed; batches, pools and optimizer steps stay.
inputs_only: inputs are mixed, and each example keeps its own target.
resampling: an example that would be mixed is replaced by one of its sources, unmixed. So classes
    are seen as often as with the mix, since a rule for partners changes that too (Teney et al.
    2024, arXiv:2305.16817).

Shapes: B batch, S sources.
"""

import numpy as np

from birdmix.mix.mix_plan import Plan

#: Names of the controls.
CONTROLS = ("no_mixing", "inputs_only", "resampling")


def control_plan(control: str | None, plan: Plan, rng: np.random.Generator) -> Plan:
    """Return the plan that a control applies instead of the plan of the mix.

    Args:
        control: Name of a control; None is the mix itself.
        plan: Plan of the mix.
        rng: Source of randomness, after all draws of the plan, so that a control draws the same
            partners as its mix.
    """
    if control == "no_mixing":
        return Plan.identity(len(plan.source))
    if control == "resampling":
        return _keep_one_source(plan, rng)
    return plan


def _keep_one_source(plan: Plan, rng: np.random.Generator) -> Plan:
    """Replace each mix by one of its sources, drawn in proportion to their parts, at gain 1."""
    part = plan.gain.astype(float)
    if plan.boxes is not None:
        area = np.prod([np.diff(bounds)[:, 0] for bounds in (plan.boxes.time, plan.boxes.mel)], 0)
        area = np.where(plan.used_mask[:, 1], area, 0)
        part = part * np.stack([1 - area, area], axis=1)
    cumulative = np.cumsum(part, axis=1)
    drawn = rng.random(len(part)) * cumulative[:, -1]
    kept = np.minimum((cumulative <= drawn[:, None]).sum(axis=1), part.shape[1] - 1)
    rows = np.arange(len(part))
    source = np.stack([rows, plan.source[rows, kept]], axis=1)
    gain = np.stack([kept == 0, kept > 0], axis=1).astype(np.float32)
    source[kept == 0, 1] = rows[kept == 0]
    return Plan(source, gain)
