"""Losses: hand-computed cases of each, and the properties of all of them."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from timm.loss import TwoWayLoss
from torch import Tensor

from birdmix.mix import Mixup2
from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.loss_settings import LOSSES, LossSettings
from birdmix.model.losses import Loss, build_loss
from birdmix.model.losses.logit_loss import class_weights
from birdmix.model.losses.pairwise import TwoWay

COUNTS = np.array([1, 2, 8, 0])


def built_loss(
    settings: LossSettings, has_frames: bool = False, counts: np.ndarray = COUNTS
) -> Loss:
    return build_loss(settings, counts, 20, has_frames)


def loss_value(
    settings: LossSettings,
    logits: list[list[float]],
    target: list[list[float]],
    weight: list[float] | None = None,
    known: list[list[bool]] | None = None,
    counts: np.ndarray | None = None,
) -> float:
    """Return the loss of a small batch."""
    x, y = torch.tensor(logits), torch.tensor(target)
    w = torch.ones(len(x)) if weight is None else torch.tensor(weight)
    k = torch.ones_like(y, dtype=torch.bool) if known is None else torch.tensor(known)
    counts = np.ones(x.shape[1]) if counts is None else counts
    return built_loss(settings, counts=counts)(ClassifierOutput(x), y, w, k).item()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


LN2, LN3 = math.log(2), math.log(3)


# Hand-computed cases: a logit of log 3 is a probability of 3/4


def test_bce_of_a_hand_computed_case():
    first = LN2
    second = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    got = loss_value(LossSettings(), [[0.0, LN3]], [[1.0, 0.5]])
    assert got == pytest.approx((first + second) / 2)


def test_unknown_labels_are_ignored():
    got = loss_value(LossSettings(), [[0.0, 50.0]], [[1.0, 0.0]], known=[[True, False]])
    assert got == pytest.approx(LN2)


def test_the_loss_is_a_mean_weighted_by_sample_weights():
    got = loss_value(LossSettings(), [[0.0], [10.0]], [[1.0], [1.0]], weight=[3.0, 1.0])
    assert got == pytest.approx((3 * LN2 + softplus(-10)) / 4)


@pytest.mark.parametrize("name", ["bce", "focal", "asymmetric"])
def test_smoothing_moves_targets_towards_a_half(name: str):
    smooth = loss_value(LossSettings(name, smoothing=0.2), [[2.0]], [[1.0]])
    assert smooth == pytest.approx(loss_value(LossSettings(name), [[2.0]], [[0.9]]), rel=1e-4)


def test_class_weights_multiply_the_loss_of_each_class():
    settings = LossSettings(class_weight="inverse")  # 8/5, 2/5 of a mean of 1
    got = loss_value(settings, [[0.0, LN3]], [[1.0, 1.0]], counts=np.array([1, 4]))
    assert got == pytest.approx((1.6 * LN2 + 0.4 * math.log(4 / 3)) / 2)


def test_class_weights_follow_the_label_counts():
    counts = np.array([1, 4, 0])
    inverse, sqrt, effective = (
        class_weights(kind, counts) for kind in ("inverse", "sqrt", "effective")
    )
    assert torch.allclose(inverse, torch.tensor([1.0, 0.25, 1.0]) / 0.75)
    assert torch.allclose(sqrt, torch.tensor([1.0, 0.5, 1.0]) * 1.2)
    four = 1 / (1 + 0.999 + 0.999**2 + 0.999**3)  # (1 - b) / (1 - b^4)
    assert torch.allclose(effective, torch.tensor([1.0, four, 1.0]) / ((2 + four) / 3))
    assert class_weights("none", counts) is None


def test_focal_of_a_hand_computed_case():
    # Differences of 1/4 and 3/4 are squared. The weight of positives is 1/4.
    got = loss_value(LossSettings("focal"), [[LN3, LN3]], [[1.0, 0.0]])
    right = 0.25 * (1 / 16) * math.log(4 / 3)
    wrong = 0.75 * (9 / 16) * math.log(4)
    assert got == pytest.approx((right + wrong) / 2)


def test_focal_is_minimal_where_the_probability_is_the_target():
    def loss_at(logit: float) -> float:
        return loss_value(LossSettings("focal"), [[logit]], [[0.75]])

    assert loss_at(LN3) == pytest.approx(0, abs=1e-12)
    assert loss_at(LN3 + 0.1) > loss_at(LN3) < loss_at(LN3 - 0.1)


def test_focal_with_gamma_zero_is_half_of_bce():
    case = [[0.3, -2.0]], [[1.0, 0.2]]
    got = loss_value(LossSettings("focal", gamma=0.0, alpha=0.5), *case)
    assert got == pytest.approx(loss_value(LossSettings(), *case) / 2)


def test_cross_entropy_of_a_hand_computed_case():
    # Softmax of 1/4, 3/4; targets are scaled to 1/3, 2/3.
    got = loss_value(LossSettings("cross_entropy"), [[0.0, LN3]], [[0.4, 0.8]])
    assert got == pytest.approx(math.log(4) / 3 + math.log(4 / 3) * 2 / 3)


def test_unknown_classes_are_excluded_from_the_softmax():
    known = [[True, True, False]]
    got = loss_value(
        LossSettings("cross_entropy"), [[0.0, 0.0, 50.0]], [[1.0, 0.0, 1.0]], known=known
    )
    assert got == pytest.approx(LN2)


def test_cross_entropy_of_an_example_without_labels_is_zero():
    settings = LossSettings("cross_entropy", smoothing=0.1)
    assert loss_value(settings, [[0.0, 5.0]], [[0.0, 0.0]]) == 0


def test_smoothing_of_cross_entropy_is_spread_over_the_known_classes():
    settings = LossSettings("cross_entropy", smoothing=0.2)
    known = [[True, True, False]]
    got = loss_value(settings, [[0.0, LN3, 0.0]], [[1.0, 0.0, 0.0]], known=known)
    assert got == pytest.approx(0.9 * math.log(4) + 0.1 * math.log(4 / 3))


def test_soft_auc_of_a_hand_computed_case():
    # The weights of the pairs 1 > 0.5, 1 > 0 and 0.5 > 0 are 0.5, 1 and 0.5.
    got = loss_value(LossSettings("soft_auc"), [[2.0], [3.0], [0.0]], [[1.0], [0.5], [0.0]])
    assert got == pytest.approx((0.5 * softplus(1) + softplus(-2) + 0.5 * softplus(-3)) / 2)


def test_soft_auc_is_a_mean_over_the_classes_that_have_pairs():
    logits = [[1.0, 7.0, 0.0], [0.0, -7.0, 0.0]]
    got = loss_value(LossSettings("soft_auc"), logits, [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert got == pytest.approx((softplus(-1) + LN2) / 2)


def test_the_weight_of_a_pair_is_the_product_of_its_sample_weights():
    case = [[0.0], [1.0], [2.0]], [[1.0], [0.0], [0.0]]
    got = loss_value(LossSettings("soft_auc"), *case, weight=[1.0, 1.0, 3.0])
    assert got == pytest.approx((softplus(1) + 3 * softplus(2)) / 4)


def test_asymmetric_of_a_hand_computed_case():
    # A positive at 3/4 has the factor (1/4)^1; a negative at 3/4 is shifted to 0.7: factor 0.7^4.
    got = loss_value(LossSettings("asymmetric"), [[LN3, LN3]], [[1.0, 0.0]])
    positive, negative = 0.25 * math.log(4 / 3), -(0.7**4) * math.log(0.3)
    assert got == pytest.approx((positive + negative) / 2)


def test_asymmetric_is_finite_for_targets_that_exceed_one_by_rounding():
    above = float(np.nextafter(np.float32(1), np.float32(2)))
    assert math.isfinite(loss_value(LossSettings("asymmetric"), [[20.0]], [[above]]))


def test_distribution_balanced_of_a_hand_computed_case():
    # One of two labels is positive; 1 and 4 of 20 recordings have them. The rebalancing ratio of
    # the rare one is 1, of the other 1/4, mapped by a sigmoid; logits are shifted by a 20th of the
    # prior log-odds. The focal factor is 2 (1 - p)^2, and the logit of a negative is doubled.
    got = built_loss(LossSettings("distribution_balanced"), counts=np.array([1, 4]))(
        ClassifierOutput(torch.zeros(1, 2)),
        torch.tensor([[1.0, 0.0]]),
        torch.ones(1),
        torch.ones(1, 2, dtype=torch.bool),
    )
    rare, other = (0.1 + 1 / (1 + math.exp(-10 * (ratio - 0.2))) for ratio in (1, 0.25))
    positive, negative = (-0.05 * math.log(20 / count - 1) / 2 for count in (1, 4))
    wrong = 1 / (1 + math.exp(positive)), 1 / (1 + math.exp(-2 * negative))
    terms = (
        rare * 2 * wrong[0] ** 2 * softplus(-positive),
        other * 2 * wrong[1] ** 2 * softplus(2 * negative) / 2,
    )
    assert got.item() == pytest.approx(sum(terms) / 2)


def test_two_way_of_a_hand_computed_case():
    # Over classes: positive 2 against negative 0, in one example. Over examples the first class has
    # no negative, the second no positive.
    got = loss_value(LossSettings("two_way", tp=1.0, tn=1.0), [[2.0, 0.0]], [[1.0, 0.0]])
    assert got == pytest.approx(softplus(-2), rel=1e-5)


def test_two_way_equals_that_of_timm_for_hard_targets():
    logits = 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    target[0], target[:, 0] = 0, 0  # an example and a class without positives
    ones = torch.ones(6)
    loss = TwoWay(LossSettings("two_way", tp=3.0, tn=0.5), COUNTS, 20)
    got = loss(logits, target, 7 * ones, torch.ones(6, 4, dtype=torch.bool))
    assert torch.allclose(got, TwoWayLoss(tp=3.0, tn=0.5)(logits, target))


def test_two_way_is_graded_by_soft_targets():
    def slope(target: float) -> float:
        logits = torch.tensor([[0.0, 0.0, 0.0]], requires_grad=True)
        labels = torch.tensor([[target, 0.4, 0.0]]), torch.ones(1), torch.ones(1, 3).bool()
        loss = built_loss(LossSettings("two_way"))(ClassifierOutput(logits), *labels)
        return torch.autograd.grad(loss, logits)[0][0, 0].item()

    assert slope(0.5) < slope(0.3) < slope(0.1)  # larger targets raise the logit more


def test_the_loss_of_the_frame_maximum_is_added_by_frame_weight():
    frames = torch.tensor([[[0.0, LN3, -9.0]]])
    output = ClassifierOutput(torch.zeros(1, 1), frames)
    rest = torch.ones(1, 1), torch.ones(1), torch.ones(1, 1, dtype=torch.bool)
    for settings, frame_weight in ((LossSettings(), 0.5), (LossSettings(frame_weight=0.25), 0.25)):
        got = built_loss(settings, has_frames=True, counts=np.ones(1))(output, *rest)
        assert got.item() == pytest.approx(
            (1 - frame_weight) * LN2 + frame_weight * math.log(4 / 3)
        )
    alone = built_loss(LossSettings(frame_weight=0.0), has_frames=True, counts=np.ones(1))
    assert alone(output, *rest).item() == pytest.approx(LN2)


# Properties of all losses

#: Losses that are not means over examples.
PAIRWISE = ("soft_auc", "two_way")

ALL = pytest.mark.parametrize(
    "settings",
    [
        *(LossSettings(name) for name in LOSSES),
        LossSettings("bce", smoothing=0.1, class_weight="sqrt"),
        LossSettings("focal", gamma=0.0, smoothing=0.1, class_weight="effective"),
        LossSettings("cross_entropy", smoothing=0.1, class_weight="inverse"),
        LossSettings("soft_auc", class_weight="inverse"),
        LossSettings("asymmetric", clip=0.0, smoothing=0.1, class_weight="sqrt"),
        LossSettings("distribution_balanced", smoothing=0.1),
    ],
    ids=lambda settings: f"{settings.name}-{settings.class_weight}-{settings.smoothing}",
)


class Case:
    """Seven examples of four classes: soft targets, one without labels, one with all unknown."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        self.logits = torch.randn(7, 4, generator=rng)
        self.target = (torch.rand(7, 4, generator=rng) * 2 - 0.7).clamp(0, 1)
        self.weight = torch.rand(7, generator=rng) + 0.1
        self.known = torch.rand(7, 4, generator=rng) < 0.7
        self.known[:3] = True
        self.target[2] = 0
        self.known[3] = False

    def loss(self, settings: LossSettings) -> Tensor:
        return built_loss(settings)(
            ClassifierOutput(self.logits), self.target, self.weight, self.known
        )

    def gradient(self, settings: LossSettings) -> Tensor:
        self.logits = self.logits.detach().requires_grad_()
        return torch.autograd.grad(self.loss(settings), self.logits)[0]


@ALL
def test_only_known_labels_have_gradients(settings: LossSettings):
    case = Case()
    gradient = case.gradient(settings)
    assert (gradient[~case.known] == 0).all()
    assert (gradient[0] != 0).all()


@ALL
def test_logits_and_targets_of_unknown_labels_have_no_effect(settings: LossSettings):
    case, other = Case(), Case()
    other.logits[~case.known] = 30.0
    other.target[~case.known] = 1.0
    assert torch.equal(case.gradient(settings), other.gradient(settings))
    assert torch.equal(case.loss(settings), other.loss(settings))


@ALL
def test_an_example_of_weight_zero_has_no_effect(settings: LossSettings):
    case = Case()
    case.weight[1] = 0
    gradient = case.gradient(settings)
    assert (gradient[1] == 0).all()
    kept = Case()
    for name in vars(case):
        setattr(kept, name, getattr(case, name)[torch.arange(7) != 1])
    assert torch.allclose(case.loss(settings), kept.loss(settings))
    assert torch.allclose(gradient[torch.arange(7) != 1], kept.gradient(settings), atol=1e-7)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in PAIRWISE])
def test_the_loss_of_a_batch_is_the_weighted_mean_over_its_shares(name: str):
    case, shares = Case(), [Case(), Case()]
    for first, share in enumerate(shares):
        for field in vars(case):
            setattr(share, field, getattr(case, field)[first::2])
    settings = LossSettings(name)
    joined = sum(share.loss(settings) * share.weight.sum() for share in shares)
    assert torch.allclose(case.loss(settings), joined / case.weight.sum())


def losses_of_a_blend(name: str, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of convexly mixed targets, and the lambda-weighted sum of two losses.

    Args:
        name: The loss.
        targets: Targets before the mix, [8, C].
    """
    loss = built_loss(LossSettings(name))
    weight, known = torch.ones(8), torch.ones_like(targets, dtype=torch.bool)
    logits = torch.randn(targets.shape, generator=torch.Generator().manual_seed(1))
    operator = Mixup2(1.0, 1.0, fixed_lambda=0.3)
    mixed = operator(torch.zeros(8, 2), targets, rng=np.random.default_rng(0))
    of_mix, own, partners = (
        loss(ClassifierOutput(logits), target, weight, known)
        for target in (mixed.target, targets, targets[mixed.plan.source[:, 1]])
    )
    return of_mix, 0.3 * own + 0.7 * partners


SEVERAL_LABELS = (torch.arange(32).view(8, 4) % 5 < 2).float()  # none to two of each example
ONE_LABEL = torch.eye(4).repeat(2, 1)


@pytest.mark.parametrize(
    ("name", "targets"),
    [("bce", SEVERAL_LABELS), ("bce", ONE_LABEL), ("cross_entropy", ONE_LABEL)],
)
def test_the_loss_of_a_blend_is_the_lambda_weighted_sum_of_two_losses(name: str, targets: Tensor):
    torch.testing.assert_close(*losses_of_a_blend(name, targets))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("cross_entropy", SEVERAL_LABELS),  # targets are scaled to a sum of 1 after the mix
        *((name, ONE_LABEL) for name in LOSSES if name not in ("bce", "cross_entropy")),
    ],
)
def test_other_losses_of_a_blend_are_not_the_sum_of_two_losses(name: str, targets: Tensor):
    of_mix, sum_of_two = losses_of_a_blend(name, targets)
    assert abs(of_mix / sum_of_two - 1) > 1e-3  # far beyond rounding, 1e-6


@ALL
def test_only_ratios_of_weights_matter(settings: LossSettings):
    case, doubled = Case(), Case()
    doubled.weight = 2 * doubled.weight
    assert torch.allclose(case.loss(settings), doubled.loss(settings))


@ALL
def test_the_order_of_examples_does_not_matter(settings: LossSettings):
    case, reversed_case = Case(), Case()
    for name in vars(reversed_case):
        setattr(reversed_case, name, getattr(reversed_case, name).flip(0))
    assert torch.allclose(case.loss(settings), reversed_case.loss(settings))


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_16_bits_are_converted_to_32(settings: LossSettings, dtype: torch.dtype):
    short, long = Case(), Case()
    short.logits = short.logits.to(dtype)
    long.logits = short.logits.float()
    assert short.loss(settings).dtype == torch.float32
    assert torch.equal(short.loss(settings), long.loss(settings))


@ALL
def test_large_logits_have_finite_losses_and_gradients(settings: LossSettings):
    for scale in (0.0, 1e4):
        case = Case()
        case.logits = scale * case.logits.sign()
        assert case.loss(settings).isfinite() and case.gradient(settings).isfinite().all()


@ALL
def test_the_loss_of_a_batch_without_known_labels_or_weights_is_zero(settings: LossSettings):
    unknown, weightless = Case(), Case()
    unknown.known[:] = False
    weightless.weight[:] = 0
    for case in (unknown, weightless):
        assert (case.gradient(settings) == 0).all()
        assert case.loss(settings) == 0


@ALL
def test_the_loss_of_a_batch_without_labels_is_finite(settings: LossSettings):
    case = Case()
    case.target[:] = 0
    assert case.loss(settings).isfinite() and case.gradient(settings).isfinite().all()


@ALL
def test_losses_do_not_read_values_from_the_device(settings: LossSettings):
    case = Case()
    rest = (each.to("meta") for each in (case.target, case.weight, case.known))
    loss = built_loss(settings).to("meta")(ClassifierOutput(case.logits.to("meta")), *rest)
    assert loss.shape == () and loss.dtype == torch.float32


@ALL
def test_a_step_along_the_negative_gradient_lowers_the_loss(settings: LossSettings):
    case = Case()
    before = case.loss(settings)
    case.logits = case.logits - 1e-2 * case.gradient(settings)
    assert case.loss(settings) < before


# Settings


PARAMETERS = [(name, key) for name in LOSSES for key in LossSettings(name).parameters]


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_a_parameter_that_is_null_is_the_default_of_its_loss(name: str, key: str):
    default = LossSettings(name).parameters[key]
    case, of_default, other = (
        Case().loss(LossSettings(name, **values))
        for values in ({}, {key: default}, {key: default / 4 if default < 1 else 2 * default})
    )
    assert torch.equal(case, of_default) and not torch.equal(case, other)


def test_every_parameter_belongs_to_a_loss():
    names = {field.name for field in fields(LossSettings)}
    parameters = names - {"name", "smoothing", "class_weight", "frame_weight"}
    assert parameters == {key for _, key in PARAMETERS}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "focl"}, "name='focl' is unknown; did you mean 'focal'?"),
        ({"class_weight": "invers"}, "did you mean 'inverse'?"),
        ({"smoothing": 1.0}, "smoothing=1.0: it must be in [0, 1)"),
        ({"frame_weight": -0.5}, "frame_weight=-0.5: it must be in [0, 1)"),
        ({"name": "focal", "gamma": 0.5}, "gamma=0.5: it must be 0 or at least 1"),
        ({"name": "focal", "alpha": 2.0}, "alpha=2.0: it must be in [0, 1]"),
        ({"gamma": 2.0}, "gamma=2.0: bce has no gamma; leave it out"),
        ({"name": "two_way", "tp": 0.0}, "tp=0.0: it must be above 0"),
        ({"name": "two_way", "smoothing": 0.1}, "two_way is a ranking loss"),
        (
            {"name": "distribution_balanced", "class_weight": "sqrt"},
            "distribution_balanced has no class weights; set",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(settings: dict, expected: str):
    with pytest.raises(ValueError) as caught:
        LossSettings(**settings)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_frame_weight_is_refused_without_frame_logits():
    with pytest.raises(
        ValueError, match=r"loss.frame_weight=0.5: this head computes no frame.*sed"
    ):
        built_loss(LossSettings(frame_weight=0.5))


def test_distribution_balanced_needs_two_recordings():
    with pytest.raises(ValueError, match="needs 2 training recordings or more; there is 1"):
        build_loss(LossSettings("distribution_balanced"), np.ones(2), 1, has_frames=False)
