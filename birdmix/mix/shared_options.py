"""Options that several mix operators share; a setting of a run has the same name as in Python."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdmix.messages import check_choice
from birdmix.mix.draw_context import DrawContext
from birdmix.mix.partners import PARTNERS, draw_fitting_partners
from birdmix.mix.post_scaling import POSTS
from birdmix.mix.random_draws import draw_partners

#: What one random decision of an operator applies to: the whole batch, or each example.
SCOPES = ("batch", "sample")

#: Levels of partners before the gains: as they are, or scaled to the example's own RMS or loudness.
MATCHES = ("none", "rms", "loudness")

#: Shifts of partners in time: none, by random amounts, or so that loud parts meet.
TIME_SHIFTS = ("none", "random", "aligned")


class CheckedSettings:
    """Base of settings that check their values when they are made: ends the chain of checks."""

    def __post_init__(self) -> None:
        """Check the values; classes of settings extend it, and call that of their bases."""


@dataclass(kw_only=True)
class ScopeOption(CheckedSettings):
    """Option of all operators.

    Attributes:
        scope: What one random decision to mix applies to: batch (all examples) or sample (each
            example by itself).

    Raises:
        ValueError: If there is no such choice.
    """

    scope: str = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("scope", self.scope, SCOPES)


@dataclass(kw_only=True)
class ScalingOptions(CheckedSettings):
    """Options of the levels of sources and mixes.

    Attributes:
        match_level: Scaling of partners before the gains: none, rms (to the example's own RMS) or
            loudness (to its loudest frame, A-weighted; of waveforms). Where the level of x is not
            that of the sound, as on normalised spectrograms, x is not scaled and only label shares
            change.
        post: Scaling of mixed examples: none, peak_guard (a peak above 1 is scaled to 1),
            peak_normalise (peak 1) or standardise (mean 0, deviation 1).

    Raises:
        ValueError: If there is no such choice.
    """

    match_level: str = "none"
    post: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("match_level", self.match_level, MATCHES)
        check_choice("post", self.post, POSTS)


@dataclass(kw_only=True)
class PartnerOption(CheckedSettings):
    """Option of which examples are mixed with each other.

    Attributes:
        partners: Which examples may be an example's partners: any, no_common_class, common_class
            or same_group (of the same site, if data.group_by=site). Where too few fit, others are
            drawn, counted in ``mix_unfit_partners``.

    Raises:
        ValueError: If there is no such choice.
    """

    partners: str = "any"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("partners", self.partners, PARTNERS)

    def draw_batch_partners(
        self, context: DrawContext, num_partners: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw partners of the batch for every example of it.

        Returns:
            Indices, int64 [B, K]; and which of them do not fit, bool [B, K], None if all do.
        """
        if PARTNERS[self.partners] is None:
            return draw_partners(context.batch_size, num_partners, rng), None
        batch = range(context.batch_size)
        return draw_fitting_partners(context, num_partners, self.partners, batch, rng)


@dataclass(kw_only=True)
class TimeShiftOption(CheckedSettings):
    """Option of shifts of partners in time.

    Attributes:
        time_shift: Circular shift of each partner: none, random (by a uniform fraction of its
            length) or aligned (so that its loud parts meet those of the example). Source: the
            cyclic shifts of BirdSet, Rauch et al. 2024, arXiv:2403.10380, and the overlap of loud
            parts of the 2nd place of BirdCLEF 2026.

    Raises:
        ValueError: If there is no such choice.
    """

    time_shift: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("time_shift", self.time_shift, TIME_SHIFTS)

    @property
    def is_aligned(self) -> bool:
        """Whether loud parts shall meet."""
        return self.time_shift == "aligned"

    def draw_time_shifts(self, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray | None:
        """Draw the shift of each source of a plan, float32 of shape [B, S]; None for none."""
        if self.time_shift != "random":
            return None
        shift = rng.random(shape, dtype=np.float32)
        shift[:, 0] = 0
        return shift
