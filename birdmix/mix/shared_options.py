"""Options that several mix operators share; a setting of a run has the same name as in Python."""

from dataclasses import dataclass

from birdmix.messages import check_choice
from birdmix.mix.post_scaling import POSTS

#: What one random decision of an operator applies to: the whole batch, or each example.
SCOPES = ("batch", "sample")


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
        match_rms: Whether partners are scaled to the example's own RMS before the gains. Where the
            level of x is not that of the sound, as on normalised spectrograms, x is not scaled and
            only label shares change.
        post: Scaling of mixed examples: none, peak_guard (a peak above 1 is scaled to 1),
            peak_normalise (peak 1) or standardise (mean 0, deviation 1).

    Raises:
        ValueError: If there is no such choice.
    """

    match_rms: bool = False
    post: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("post", self.post, POSTS)
