"""Allowed values and ranges of mix parameters, checked without torch."""

from collections.abc import Mapping

from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints

#: What one random decision of an operator applies to: the whole batch, or each example.
SCOPES = ("batch", "sample")

#: The axes along which CutMix cuts.
AXES = ("time", "frequency", "box")

#: How targets are joined; the rules themselves are in ``label_rules.RULES``.
RULE_NAMES = ("convex", "union", "max", "noisy_or", "amplitude")

#: How mixed examples are scaled; the functions are in ``post_scaling.POSTS``.
POST_NAMES = ("none", "peak_guard", "peak_normalise", "standardise")


def check_probability(name: str, value: ScheduledFloat) -> None:
    """Raise ValueError if a value, or a bound of its schedule, lies outside [0, 1]."""
    for bound in schedule_endpoints(value):
        if not 0 <= bound <= 1:
            raise ValueError(f"{name}={bound}: a probability lies in [0, 1]")


def check_concentration(name: str, value: ScheduledFloat) -> None:
    """Raise ValueError unless a concentration of a Beta or Dirichlet distribution is above 0."""
    for bound in schedule_endpoints(value):
        if not bound > 0:
            raise ValueError(f"{name}={bound}: a concentration is above 0; 1 is uniform")


def check_range(name: str, value: tuple[float, float], lowest: float) -> None:
    """Raise ValueError unless ``lowest <= low <= high < inf`` for a range (low, high)."""
    low, high = value
    if not lowest <= low <= high < float("inf"):
        raise ValueError(f"{name}={list(value)}: a range (low, high) with {lowest} <= low <= high")


def check_source_count_probabilities(probabilities: Mapping[int, float]) -> None:
    """Raise ValueError unless numbers of sources, 2 or more, have probabilities that sum to 1."""
    values = list(probabilities.values())
    if (
        not probabilities
        or min(probabilities) < 2
        or min(values) < 0
        or abs(sum(values) - 1) > 1e-6
    ):
        raise ValueError(
            f"num_sources={dict(probabilities)}: probabilities of 2 or more sources, which add up "
            "to 1"
        )
