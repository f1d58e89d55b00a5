from .audit import Audit
from .combine import Chain, OneOf
from .draw import batch_rng
from .label_rules import (
    AMPLITUDE,
    CONVEX,
    MAX,
    NOISY_OR,
    RULES,
    UNION,
    LabelRule,
)
from .levels import level, mixed_level
from .operator import Operator
from .operators import CutMix, Inject, Mixup, Mixup2
from .plan import Boxes, Plan
from .samples import Mixed, Samples
from .schedule import Schedule
from .settings import MixSettings
from .stages import Stages, build_stages

__all__ = [
    "AMPLITUDE",
    "CONVEX",
    "MAX",
    "NOISY_OR",
    "RULES",
    "UNION",
    "Audit",
    "Boxes",
    "Chain",
    "CutMix",
    "Inject",
    "LabelRule",
    "MixSettings",
    "Mixed",
    "Mixup",
    "Mixup2",
    "OneOf",
    "Operator",
    "Plan",
    "Samples",
    "Schedule",
    "Stages",
    "batch_rng",
    "build_stages",
    "level",
    "mixed_level",
]
