"""What operators and settings refuse."""

from collections.abc import Mapping

from birdmix.mix.schedule import Scheduled, values


def check_probability(name: str, value: Scheduled) -> None:
    """Refuse what is no probability with a ValueError."""
    for each in values(value):
        if not 0 <= each <= 1:
            raise ValueError(f"{name}={each}: a probability lies in [0, 1]")


def check_concentration(name: str, value: Scheduled) -> None:
    """Refuse what is no concentration of a Beta or Dirichlet distribution with a ValueError."""
    for each in values(value):
        if not each > 0:
            raise ValueError(f"{name}={each}: a concentration is above 0; 1 is uniform")


def check_range(name: str, value: tuple[float, float], lowest: float) -> None:
    """Refuse what is no range (low, high) above a lowest value with a ValueError."""
    low, high = value
    if not lowest <= low <= high < float("inf"):
        raise ValueError(f"{name}={list(value)}: a range (low, high) with {lowest} <= low <= high")


def check_num_sources(law: Mapping[int, float]) -> None:
    """Refuse what is no distribution over numbers of sources with a ValueError."""
    probs = list(law.values())
    if not law or min(law) < 2 or min(probs) < 0 or abs(sum(probs) - 1) > 1e-6:
        raise ValueError(
            f"num_sources={dict(law)}: probabilities of 2 or more sources, which add up to 1"
        )
