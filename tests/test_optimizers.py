"""Optimizers, learning rate and weight average."""

import pytest
import torch

from birdmix.model.classifier import Classifier
from birdmix.model.optimizers import build_optimizer, lr_factor, weight_average
from birdmix.model.settings import ModelSettings, OptimSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}


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
