"""The mix of a run, as its configuration names it."""

from dataclasses import dataclass


def check_probability(name: str, value: float) -> None:
    """Refuse what is no probability with a ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: a probability lies in [0, 1]")


def check_concentration(name: str, value: float) -> None:
    """Refuse what is no concentration of a Beta or Dirichlet distribution with a ValueError."""
    if not value > 0:
        raise ValueError(f"{name}={value}: a concentration is above 0")


@dataclass
class MixSettings:
    """Mixup on the waveform batch, then Mixup2 on the log-mel batch; probability 0 is off.

    Attributes:
        mixup_prob: Probability that a batch's waveforms are summed.
        mixup_double: Given that, the probability of two sources; otherwise three.
        mix_beta: null sums at gain 1; a number draws the gains from a symmetric Dirichlet
            distribution with this concentration.
        mixup2_prob: Probability that a batch's mels are blended.
        mix_beta2: Concentration b of lambda ~ Beta(b, b), one draw per sample.
    """

    mixup_prob: float = 0.0
    mixup_double: float = 0.5
    mix_beta: float | None = None
    mixup2_prob: float = 0.0
    mix_beta2: float = 2.0

    def __post_init__(self) -> None:
        for name in ("mixup_prob", "mixup_double", "mixup2_prob"):
            check_probability(name, getattr(self, name))
        check_concentration("mix_beta2", self.mix_beta2)
        if self.mix_beta is not None:
            check_concentration("mix_beta", self.mix_beta)

    @property
    def max_sources(self) -> int:
        """The most samples that one draw mixes."""
        if self.mixup_prob > 0:
            return 3 if self.mixup_double < 1 else 2
        return 2 if self.mixup2_prob > 0 else 1
