"""Classifier, loss, learning rate and weight average."""

import math

import pytest
import torch

from birdmix.model.classifier import Classifier, GeneralisedMean
from birdmix.model.losses import soft_bce
from birdmix.model.optimizers import build_optimizer, lr_factor, weight_average
from birdmix.model.settings import ModelSettings, OptimSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}


@pytest.mark.parametrize("pool", ["average", "gem"])
def test_a_classifier_gives_a_logit_per_class(pool: str):
    model = Classifier(ModelSettings("resnet10t", dict(SMALL), pool=pool), num_classes=5)
    assert model(torch.randn(2, 1, 32, 64)).shape == (2, 5)


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"resnet10x.*did you mean 'resnet\d+\w'"):
        Classifier(ModelSettings("resnet10x"), num_classes=2)


def test_arguments_that_a_backbone_does_not_take_are_refused():
    with pytest.raises(ValueError, match="model.backbone_args"):
        Classifier(ModelSettings("resnet10t", {"wings": 2}), num_classes=2)


def test_the_generalised_mean_with_exponent_one_is_the_mean():
    x = torch.rand(2, 3, 4, 5)
    assert torch.allclose(GeneralisedMean(1.0)(x), x.mean(dim=(-2, -1)), atol=1e-5)


def test_bce_of_hand_computed_case():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    target = torch.tensor([[1.0, 0.5]])
    first = math.log(2)
    second = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    loss = soft_bce(logits, target, torch.ones(1), torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx((first + second) / 2)


def test_unknown_labels_do_not_count():
    logits = torch.tensor([[0.0, 50.0]])
    known = torch.tensor([[True, False]])
    loss = soft_bce(logits, torch.tensor([[1.0, 0.0]]), torch.ones(1), known)
    assert loss.item() == pytest.approx(math.log(2))


def test_a_sample_counts_by_its_weight():
    logits, target = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [1.0]])
    known = torch.ones(2, 1, dtype=torch.bool)
    heavy = soft_bce(logits, target, torch.tensor([3.0, 1.0]), known)
    assert heavy.item() == pytest.approx((3 * math.log(2) + math.log1p(math.exp(-10))) / 4)


def test_smoothing_draws_targets_towards_a_half():
    known = torch.ones(1, 1, dtype=torch.bool)
    smooth = soft_bce(torch.tensor([[2.0]]), torch.ones(1, 1), torch.ones(1), known, smoothing=0.2)
    soft = soft_bce(torch.tensor([[2.0]]), torch.tensor([[0.9]]), torch.ones(1), known)
    assert smooth.item() == pytest.approx(soft.item())


def test_the_learning_rate_warms_up_and_decays_to_zero():
    rates = [lr_factor(step, 100, 0.1) for step in range(101)]
    assert rates[:11] == sorted(rates[:11]) and max(rates) == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)


def test_an_unknown_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'adamw'"):
        build_optimizer(torch.nn.Linear(1, 1), OptimSettings(name="adamww"))


def test_norms_and_biases_have_no_weight_decay():
    model = Classifier(ModelSettings("resnet10t", dict(SMALL)), num_classes=2)
    optimizer = build_optimizer(model, OptimSettings(weight_decay=0.1))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (parameter.ndim > 1) == (group["weight_decay"] > 0)


def test_the_average_follows_the_weights_and_forgets_its_start():
    model = torch.nn.Linear(1, 1, bias=False)
    average = weight_average(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(5.0)
    for _ in range(60):
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(5.0, abs=0.05)
