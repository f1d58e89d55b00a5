from .base_operator import Mix, Operator
from .combined_operators import Chain, OneOf
from .draw_context import DrawContext
from .examples import Examples, MixResult
from .label_rules import (
    AMPLITUDE,
    CONVEX,
    MAX,
    NOISY_OR,
    OWN,
    RULES,
    SATURATING,
    UNION,
    LabelRule,
)
from .mix_examples import MixDetails
from .mix_layer import MixLayer
from .mix_plan import Boxes, Plan
from .mix_schedule import Schedule
from .mix_stages import MixStages, build_mix_stages
from .mix_stats import MixStats
from .operators.cutmix import CutMix, CutMixSettings
from .operators.inject import Inject, InjectSettings
from .operators.mixup import Mixup, MixupSettings
from .operators.mixup2 import Mixup2, Mixup2Settings
from .random_draws import batch_rng
from .settings import HiddenSettings, MixSettings
from .sound_levels import measure_level_db, mixed_level_db

__all__ = [
    "AMPLITUDE",
    "CONVEX",
    "MAX",
    "NOISY_OR",
    "OWN",
    "RULES",
    "SATURATING",
    "UNION",
    "Boxes",
    "Chain",
    "CutMix",
    "CutMixSettings",
    "DrawContext",
    "Examples",
    "HiddenSettings",
    "Inject",
    "InjectSettings",
    "LabelRule",
    "Mix",
    "MixDetails",
    "MixLayer",
    "MixResult",
    "MixSettings",
    "MixStages",
    "MixStats",
    "Mixup",
    "Mixup2",
    "Mixup2Settings",
    "MixupSettings",
    "OneOf",
    "Operator",
    "Plan",
    "Schedule",
    "batch_rng",
    "build_mix_stages",
    "measure_level_db",
    "mixed_level_db",
]
