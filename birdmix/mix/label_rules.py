"""Label rules: how the targets of a mix's sources are joined to the target of the mix.

Each source contributes a share of its target (its claim), and the claims are joined by a sum, a
maximum or a noisy-or.

Unknown labels (not annotated) may be 0 or 1. So a target is joined twice, with all unknown labels
as 0 and as 1: a label of the mix is known where the two results differ little.

Shapes: B batch, P mix pool, N = B + P examples, S sources, C classes, F' label frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from birdmix.messages import check_choice

if TYPE_CHECKING:
    from torch import Tensor

SHARES = ("part", "full", "amplitude", "saturating", "own")
JOINS = ("sum", "max", "noisy_or")

# Gain from which on a source counts in full under saturating shares.
_SATURATION = 0.5

# Rounding error of a difference of two targets in float32: twenty spacings of numbers near 1.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LabelRule:
    """How targets are joined. Rules with equal fields are equal.

    Attributes:
        share: Fraction of its target that a source contributes. ``part``: its part of the mix,
            that is its gain, or the area of its box, over the sum of the example. ``full``: all.
            ``amplitude``: its part weighted by its RMS, so that a quiet source contributes
            little (between-class learning, Tokozume et al. 2018, arXiv:1711.10282).
            ``saturating``: its gain / .5, at most 1 (sumix, the 7th place of BirdCLEF 2023).
            ``own``: all of the example's own target, and nothing of its partners; its sample
            weight stays its own, too.
        join: How the claims are joined: ``sum`` (clamped to 1), ``max``, or ``noisy_or``,
            1 - (1 - a)(1 - b).
        min_snr_db: Audibility threshold in dB, 0 or less: a source whose level, after its gain and
            within its box, is this far below that of the loudest source of the mix contributes
            no label, and neither does silence. None is no threshold.
        label_cap: Largest sum of labels, over classes, that one source from the pool contributes;
            None is no cap.
        label_sum: Sum of labels, over classes, that each source from the pool contributes: its
            labels are scaled up or down to it, each to at most 1. A source without labels still
            has none. None is no scaling.
        known_tolerance: Largest difference that unknown labels may make to a label of the mix that
            counts as known, in [0, 1].

    Raises:
        ValueError: If a choice is unknown or a number is out of range.
    """

    share: str
    join: str
    min_snr_db: float | None = None
    label_cap: float | None = None
    label_sum: float | None = None
    known_tolerance: float = 0.1

    def __post_init__(self) -> None:
        check_choice("share", self.share, SHARES)
        check_choice("join", self.join, JOINS)
        if self.min_snr_db is not None and not self.min_snr_db <= 0:
            raise ValueError(
                f"min_snr_db={self.min_snr_db}: levels are relative to the loudest source of a "
                "mix, so it is at most 0"
            )
        if self.label_cap is not None and not self.label_cap >= 0:
            raise ValueError(f"label_cap={self.label_cap}: it must be 0 or more")
        if self.label_sum is not None and not self.label_sum > 0:
            raise ValueError(f"label_sum={self.label_sum}: it must be above 0")
        if self.label_sum is not None and self.label_cap is not None:
            raise ValueError(
                f"label_sum={self.label_sum} and label_cap={self.label_cap}: set one of them"
            )
        if not 0 <= self.known_tolerance <= 1:
            raise ValueError(
                f"known_tolerance={self.known_tolerance}: a difference of targets lies in [0, 1]"
            )

    @property
    def needs_levels(self) -> bool:
        """Whether shares depend on the levels of the sources."""
        if self.share == "own":
            return False
        return self.share == "amplitude" or self.min_snr_db is not None

    def compute_shares(
        self, part: "Tensor", gain: "Tensor | None" = None, rms: "Tensor | None" = None
    ) -> "Tensor":
        """Compute the share of its label that each source contributes.

        Args:
            part: Part of the mix that each source is, [B, S, ...], adding up to 1.
            gain: Linear gains, [B, S, ...]; needed by saturating shares and if the rule needs
                levels.
            rms: RMS of the sources before the gains, [B, S, ...]; needed if the rule needs levels.

        Returns:
            Shares in [0, 1], float32 [B, S, ...].
        """
        import torch

        if self.share == "own":
            share = torch.zeros_like(part)
            share[:, 0] = 1
            return share
        present = part > 0
        share = part if self.share == "part" else present.float()
        if self.share == "saturating":
            assert gain is not None
            share = share * (gain / _SATURATION).clamp(max=1)
        if not self.needs_levels:
            return share
        assert gain is not None and rms is not None
        if self.share == "amplitude":
            amplitude = part * rms
            total = amplitude.sum(dim=1, keepdim=True)
            share = (amplitude / total).where(total > 0, part)
        if self.min_snr_db is None:
            return share
        mixed_rms = gain * rms * present
        threshold = mixed_rms.amax(dim=1, keepdim=True) * 10 ** (self.min_snr_db / 20)
        return share * ((mixed_rms > 0) & (mixed_rms >= threshold))

    def label_factors(self, share: "Tensor", source: "Tensor", target: "Tensor") -> "Tensor | None":
        """Compute the factors by which the labels of pool sources fit ``label_cap``, ``label_sum``.

        Args:
            share: Shares, [B, S].
            source: Indices in the batch followed by the pool, int64 [B, S].
            target: Targets of batch and pool, [N, C].

        Returns:
            Factors of the shares, [B, S]; None if the rule has no such limit.
        """
        limit = self.label_cap if self.label_sum is None else self.label_sum
        if limit is None:
            return None
        label_sum = share * target.detach().sum(dim=1)[source]
        is_scaled = (source >= len(share)) & (label_sum > (0 if self.label_sum else limit))
        return (limit / label_sum).where(is_scaled, 1)

    def label_factors_of_bounds(
        self, share: "Tensor", source: "Tensor", target: "Tensor", known: "Tensor | None"
    ) -> "tuple[Tensor, Tensor] | None":
        """Compute the smallest and the largest ``label_factors`` that unknown labels allow.

        They are those with all unknown labels as 1, and as 0.

        Args:
            share: Shares, [B, S].
            source: Indices in the batch followed by the pool, int64 [B, S].
            target: Targets of batch and pool, [N, C].
            known: Which of them are known, bool [N, C]; None is all.

        Returns:
            The smallest and the largest factors of the shares, [B, S] each; None if the rule has no
            limit.
        """
        if self.label_cap is None and self.label_sum is None:
            return None
        bounds = (target if known is None else target.where(known, bound) for bound in (1, 0))
        lowest, highest = (self.label_factors(share, source, each) for each in bounds)
        return None if lowest is None or highest is None else (lowest, highest)

    def join_targets(
        self,
        share: "Tensor",
        source: "Tensor",
        target: "Tensor",
        *,
        offset: "Tensor | None" = None,
        factor: "Tensor | None" = None,
    ) -> "Tensor":
        """Join the targets of all sources, each times its share.

        Args:
            share: Shares, [B, S], or per label frame [B, S, F'].
            source: Indices in the batch followed by the pool, int64 [B, S].
            target: Targets of batch and pool, [N, C] or [N, C, F'].
            offset: Shifts of the sources in time, for targets with frames, in frames, int64 [B, S];
                see ``time_shifts.shift_in_time``.
            factor: Factors of the shares (``label_factors``), [B, S]; None is 1.

        Returns:
            Mixed targets in [0, 1], [B, C] or [B, C, F'].
        """
        if factor is not None:
            share = share * factor.view(*factor.shape, *[1] * (share.dim() - 2))
        claims = (
            share[:, slot].unsqueeze(1).to(target.dtype) * slot_target
            for slot, slot_target in enumerate(_slot_targets(source, target, offset))
        )
        if factor is not None:  # shares may exceed 1
            claims = (claim.clamp(max=1) for claim in claims)
        mixed = next(claims)
        for claim in claims:
            if self.join == "max":
                mixed = mixed.maximum(claim)
            elif self.join == "noisy_or":
                mixed = 1 - (1 - mixed) * (1 - claim)
            else:
                mixed = mixed + claim
        return mixed.clamp(max=1)

    def join_known(
        self,
        share: "Tensor",
        source: "Tensor",
        known: "Tensor",
        target: "Tensor",
        *,
        offset: "Tensor | None" = None,
        factors: "tuple[Tensor, Tensor] | None" = None,
    ) -> "Tensor":
        """Compute which labels of the mix are known.

        Known are the labels whose joined targets, with all unknown labels of the sources as 0 and
        as 1, differ by at most ``known_tolerance``. So a source of share 0 has no effect, and an
        unknown label has little effect where another source has a label near 1. Where unknown
        labels decide how much the known ones are scaled, the factors count, too: the smallest with
        unknown labels as 0, the largest with unknown labels as 1.

        Args:
            share: Shares, [B, S], or per label frame [B, S, F'].
            source: Indices in the batch followed by the pool, int64 [B, S].
            known: Which targets of batch and pool are known, bool [N, C] or [N, C, F'].
            target: Targets of batch and pool, [N, C] or [N, C, F'].
            offset: Shifts of the sources in time, for targets with frames, in frames, int64 [B, S].
            factors: Smallest and largest factors of the shares (``label_factors_of_bounds``),
                [B, S] each; None is 1.

        Returns:
            Known mask of the mix, bool [B, C] or [B, C, F'].
        """
        bounds = (target.float().where(known, bound) for bound in (0, 1))
        lowest, highest = (
            self.join_targets(share, source, each, offset=offset, factor=factor)
            for each, factor in zip(bounds, factors or (None, None), strict=True)
        )
        return highest - lowest <= self.tolerance

    @property
    def tolerance(self) -> float:
        """``known_tolerance`` and the rounding error of a difference of two targets."""
        return self.known_tolerance + _ROUNDING


def _slot_targets(
    source: "Tensor", target: "Tensor", offset: "Tensor | None"
) -> "Iterator[Tensor]":
    """Yield the targets of the sources in each slot, [B, C] or [B, C, F'], shifted in time."""
    for slot, indices in enumerate(source.unbind(dim=1)):
        if offset is None or not slot:
            yield target[indices]
        else:
            from birdmix.mix.time_shifts import shift_in_time

            yield shift_in_time(target[indices], offset[:, slot])


#: Shares are parts of the mix: the target of Zhang et al. 2018, arXiv:1710.09412.
CONVEX = LabelRule("part", "sum")

#: The sum of the targets, clamped to 1: every audible bird counts in full.
UNION = LabelRule("full", "sum")

#: The largest target of all sources.
MAX = LabelRule("full", "max")

#: Probability that at least one source has the label, sources being independent: noisy-or.
NOISY_OR = LabelRule("full", "noisy_or")

#: Shares are proportional to gain x RMS.
AMPLITUDE = LabelRule("amplitude", "sum")

#: A source of gain .5 or more counts in full, a quieter one in proportion (sumix).
SATURATING = LabelRule("saturating", "sum")

#: The target of the example itself, as if its partners were noise.
OWN = LabelRule("own", "sum")

#: The rules by name.
RULES = {
    "convex": CONVEX,
    "union": UNION,
    "max": MAX,
    "noisy_or": NOISY_OR,
    "amplitude": AMPLITUDE,
    "saturating": SATURATING,
    "own": OWN,
}
