"""Checks of the ranges of mix parameters."""

from collections.abc import Sequence

from birdmix.mix.mix_schedule import ScheduledFloat, schedule_endpoints

#: Largest gain or ratio in dB: 120 dB are the range of hearing.
_MAX_DB = 120


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


def check_number_probabilities(name: str, probabilities: Sequence[float]) -> None:
    """Raise ValueError unless probabilities of numbers of sources are none, or add up to 1."""
    if probabilities and (min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6):
        raise ValueError(
            f"{name}={list(probabilities)}: probabilities of two, three, ... sources must add up "
            "to 1"
        )


def check_at_most_one(**settings: object) -> None:
    """Raise ValueError if more than one of several settings is not None."""
    given = [f"{name}={value}" for name, value in settings.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: set one of them")


def check_range(name: str, value: Sequence[float], lowest: float) -> None:
    """Raise ValueError unless ``lowest <= low <= high < inf`` for a range [low, high]."""
    low, high = _read_range(name, value)
    if not lowest <= low <= high < float("inf"):
        raise ValueError(
            f"{name}={list(value)}: a range [lowest, highest], the lowest first, from {lowest} on"
        )


def check_gain_range(name: str, value: Sequence[float]) -> None:
    """Raise ValueError unless a value is a range of linear gains above 0; 0 is an unused source."""
    check_range(name, value, 0)
    if not value[0] > 0:
        raise ValueError(f"{name}={list(value)}: gains are above 0; prob turns a mix off")


def check_db_range(name: str, value: Sequence[float]) -> None:
    """Raise ValueError unless a value is a range [lowest, highest] in dB, within +-120 dB."""
    low, high = _read_range(name, value)
    if not -_MAX_DB <= low <= high <= _MAX_DB:
        raise ValueError(
            f"{name}={list(value)}: a range [lowest, highest] in dB, the lowest first, between "
            f"{-_MAX_DB} and {_MAX_DB}"
        )


def _read_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return the two numbers of a range; raise ValueError if they are not two."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value}: it must be a range, [lowest, highest]") from None
    return low, high
