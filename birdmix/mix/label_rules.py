"""What the label of a mix says: a share of each source's target, and how shares are joined.

A label that nobody looked for may be there or not. So a target is joined twice, with the unknown
labels as 0 and as 1: where that makes no difference to speak of, the label of the mix is known.

Shapes: B batch, P pool, N = B + P rows, S sources, C classes, F' label frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from birdmix.mix.names import RULE_NAMES

SHARES = ("part", "full", "amplitude")
JOINS = ("sum", "max", "noisy_or")

# Of a difference of two targets in float32: twenty times the spacing of numbers near 1.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LabelRule:
    """How targets are joined. A value: rules compare equal by what they do.

    Attributes:
        share: What a source claims of its label: its ``part`` of the mix (its gain, or the area of
            its box, over the sample's sum); all of it, ``full``; or by ``amplitude``, its part
            weighted by its RMS, so that a quiet source claims little (between-class learning,
            Tokozume et al. 2018, arXiv:1711.10282).
        join: How the claims come together: ``sum`` (at most 1), ``max``, or ``noisy_or``,
            1 - (1 - a)(1 - b).
        min_snr_db: Who is this many dB below the loudest source of the mix (a negative number), as
            it is heard, where it is heard, is not audible and brings no label; nor does silence.
            None asks nobody.
        label_cap: The most that the labels from the pool add up to, per source; None is no limit.
        known_tolerance: The most that unknown labels of the sources may change a label of the mix
            that counts as known, in [0, 1].
    """

    share: str
    join: str
    min_snr_db: float | None = None
    label_cap: float | None = None
    known_tolerance: float = 0.1

    def __post_init__(self) -> None:
        for name, value, choices in (("share", self.share, SHARES), ("join", self.join, JOINS)):
            if value not in choices:
                raise ValueError(f"{name}={value!r}: it is one of {', '.join(choices)}")
        if self.min_snr_db is not None and not self.min_snr_db <= 0:
            raise ValueError(
                f"min_snr_db={self.min_snr_db}: levels are relative to the loudest source of a "
                "mix, so it is at most 0"
            )
        if self.label_cap is not None and not self.label_cap >= 0:
            raise ValueError(f"label_cap={self.label_cap}: it cannot be negative")
        if not 0 <= self.known_tolerance <= 1:
            raise ValueError(
                f"known_tolerance={self.known_tolerance}: a difference of targets lies in [0, 1]"
            )

    @property
    def needs_levels(self) -> bool:
        """Whether the rule looks at how loud sources are."""
        return self.share == "amplitude" or self.min_snr_db is not None

    def shares(self, part: Tensor, gain: Tensor | None = None, rms: Tensor | None = None) -> Tensor:
        """Return how much of its label each source brings, float32 [B, S, ...].

        Args:
            part: What part of each sample its sources are, [B, S, ...], adding up to 1.
            gain: Linear gains, [B, S, ...].
            rms: Levels before the gains, [B, S, ...]; needed if the rule needs levels.
        """
        present = part > 0
        share = part if self.share == "part" else present.float()
        if not self.needs_levels:
            return share
        assert gain is not None and rms is not None
        if self.share == "amplitude":
            amount = part * rms
            total = amount.sum(dim=1, keepdim=True)
            share = torch.where(total > 0, amount / total, part)
        if self.min_snr_db is None:
            return share
        heard = gain * rms * present
        floor = heard.amax(dim=1, keepdim=True) * 10 ** (self.min_snr_db / 20)
        return share * ((heard > 0) & (heard >= floor))

    def capped(self, share: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Lower the shares of pool samples whose labels would add up to more than the cap.

        Args:
            share: [B, S].
            source: Rows of batch and pool, int64 [B, S].
            target: Targets of batch and pool, [N, C].
        """
        if self.label_cap is None:
            return share
        claims = share * target.sum(dim=1)[source]
        too_much = (source >= len(share)) & (claims > self.label_cap)
        return share * torch.where(too_much, self.label_cap / claims, 1)

    def joined(self, share: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Join the claims of all sources.

        Args:
            share: [B, S], or per label frame [B, S, F'].
            source: Rows of batch and pool, int64 [B, S].
            target: Targets of batch and pool, [N, C] or [N, C, F'].

        Returns:
            Mixed targets, [B, C] or [B, C, F'].
        """
        slots = zip(share.unbind(dim=1), source.unbind(dim=1), strict=True)
        claims = (part.unsqueeze(1).to(target.dtype) * target[rows] for part, rows in slots)
        mixed = next(claims)
        for claim in claims:
            if self.join == "max":
                mixed = torch.maximum(mixed, claim)
            elif self.join == "noisy_or":
                mixed = 1 - (1 - mixed) * (1 - claim)
            else:
                mixed = mixed + claim
        return mixed.clamp(max=1)

    def joined_known(self, share: Tensor, source: Tensor, known: Tensor, target: Tensor) -> Tensor:
        """Return which labels of the mix are known.

        Known are those whose joined targets, with the unknown labels of the sources as 0 and as 1,
        differ by at most ``known_tolerance``. So a source that brings no label changes nothing,
        and an unknown label is outweighed where another source is sure enough of it.

        Args:
            share: [B, S], or per label frame [B, S, F'].
            source: Rows of batch and pool, int64 [B, S].
            known: Which targets of batch and pool are known, bool [N, C] or [N, C, F'].
            target: Targets of batch and pool, [N, C] or [N, C, F'].

        Returns:
            bool, [B, C] or [B, C, F'].
        """
        target = torch.cat([target.float().where(known, bound) for bound in (0, 1)], dim=1)
        lowest, highest = self.joined(share, source, target).chunk(2, dim=1)
        return highest - lowest <= self.known_tolerance + _ROUNDING


#: Shares are parts of the mix: the target of Zhang et al. 2018, arXiv:1710.09412.
CONVEX = LabelRule("part", "sum")

#: A bird that can be heard is there: the clamped sum of the targets.
UNION = LabelRule("full", "sum")

#: The surest of the sources decides.
MAX = LabelRule("full", "max")

#: Sources are independent witnesses: 1 - (1 - a)(1 - b).
NOISY_OR = LabelRule("full", "noisy_or")

#: Shares are what is heard: proportional to gain x RMS.
AMPLITUDE = LabelRule("amplitude", "sum")

#: The rules by their names in a configuration.
RULES = dict(zip(RULE_NAMES, (CONVEX, UNION, MAX, NOISY_OR, AMPLITUDE), strict=True))


def joined_weight(part: Tensor, source: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of the sources' sample weights [N], weighted by their parts [B, S]: [B]."""
    return (part.to(weight.dtype) * weight[source]).sum(dim=1)
