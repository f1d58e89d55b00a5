"""Optimizers, frozen parameters, learning-rate schedules and weight averages."""

import csv
from pathlib import Path

import pytest
import timm.optim
import torch
from torch import nn

from birdmix.experiments.builders import build_training_run
from birdmix.loading.run_data import open_data
from birdmix.model.classifier import Classifier
from birdmix.model.optim_settings import SCHEDULES, OptimSettings
from birdmix.model.optimizers import (
    build_optimizer,
    build_weight_average,
    freeze,
    set_frozen_to_eval,
)
from birdmix.model.settings import ModelSettings
from birdmix.training.distributed_processes import connect_processes
from tests.conftest import SMALL, make_config, train


def classifier() -> Classifier:
    small = {"channels": (8, 8, 8, 8), "stem_width": 8}
    return Classifier(ModelSettings("resnet10t", small, dropout=0.5), num_classes=2)


# The optimizer


def test_an_unknown_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'adamw'"):
        build_optimizer(nn.Linear(1, 1), OptimSettings(name="adamww"))


def test_more_arguments_are_passed_to_the_optimizer():
    adam = build_optimizer(nn.Linear(1, 1), OptimSettings(args={"betas": [0.8, 0.9]}))
    assert list(adam.param_groups[0]["betas"]) == [0.8, 0.9]
    sgd = build_optimizer(nn.Linear(1, 1), OptimSettings("sgd", {"momentum": 0.5}))
    assert sgd.param_groups[0]["momentum"] == 0.5


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("adamw", {"wings": 2}),
        ("adamw", {"lr": 2}),
        ("adamw", {"betas": [2.0, 0.9]}),
        ("adamw", {"betas": [0.9]}),
        ("adamw", {"betas": [0.9, 0.99, 0.999]}),
        # timm ignores these silently
        ("sgd", {"betas": [0.9, 0.9]}),
        *((name, {"momentum": 0.8}) for name in ("adamw", "adam", "lion", "adagrad")),
    ],
)
def test_an_argument_that_an_optimizer_does_not_accept_is_refused(name: str, args: dict):
    with pytest.raises(ValueError, match=rf"{name}.*{next(iter(args))}|{next(iter(args))}.*{name}"):
        build_optimizer(nn.Linear(1, 1), OptimSettings(name, args))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adahessian", "needs second-order gradients"),
        ("lookahead_adamw", r"not a timm optimizer; timm.optim.list_optimizers\(\) lists them"),
    ],
)
def test_an_optimizer_that_cannot_train_here_is_refused(name: str, message: str):
    with pytest.raises(ValueError, match=rf"optim.name='?{name}'? .*{message}"):
        build_optimizer(nn.Linear(1, 1), OptimSettings(name))


def test_a_missing_requirement_of_an_optimizer_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("CUDA required\nfor this one")

    monkeypatch.setattr(timm.optim, "create_optimizer_v2", fail)
    with pytest.raises(ValueError, match=r"optim.name=adamw cannot .*\(CUDA required\)$"):
        build_optimizer(nn.Linear(1, 1), OptimSettings())


def test_norms_and_biases_have_no_weight_decay():
    optimizer = build_optimizer(classifier(), OptimSettings(weight_decay=0.1))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (parameter.ndim > 1) == (group["weight_decay"] > 0)


def test_layer_decay_lowers_the_rate_of_deeper_layers():
    model = classifier()
    optimizer = build_optimizer(model, OptimSettings(layer_decay=0.5))
    scale = {
        id(parameter): group["lr_scale"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    scales = {name: scale[id(each)] for name, each in model.named_parameters()}
    assert scales["head.classes.weight"] == 1
    layer_scales = [scales[f"backbone.layer{n}.0.conv1.weight"] for n in (4, 3, 2, 1)]
    assert layer_scales == sorted(layer_scales, reverse=True) and len(set(layer_scales)) == 4
    assert scales["backbone.conv1.0.weight"] < layer_scales[-1] < layer_scales[0] < 1


# Frozen parameters


def test_frozen_parts_are_not_in_the_optimizer():
    model = classifier()
    freeze(model, ["backbone.conv1", "backbone.layer1"])
    optimizer = build_optimizer(model, OptimSettings())
    trained = {id(each) for group in optimizer.param_groups for each in group["params"]}
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("backbone.conv1.", "backbone.layer1."))
        assert (id(parameter) not in trained) == (not parameter.requires_grad) == frozen, name


def test_a_frozen_backbone_keeps_weights_and_statistics():
    model = classifier()
    freeze(model, ["backbone"])
    optimizer = build_optimizer(model, OptimSettings(lr=0.1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    set_frozen_to_eval(model)
    model(torch.randn(4, 1, 32, 32)).logits.sum().backward()
    optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert "head.classes.weight" in changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_only_frozen_modules_are_set_to_evaluation():
    model = classifier()
    freeze(model, ["backbone.layer1"])
    model.train()
    set_frozen_to_eval(model)
    in_eval = {name for name, module in model.named_modules() if not module.training}
    assert in_eval and all(name.startswith("backbone.layer1") for name in in_eval)


def test_unknown_parts_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'layer1'.*valid names: backbone, head, backbone.conv1"):
        freeze(classifier(), ["layer1"])
    with pytest.raises(ValueError, match="did you mean 'backbone'"):
        freeze(classifier(), ["backbon"])


def test_freezing_all_parameters_is_refused():
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze(classifier(), ["backbone", "head"])


# The learning rate


def rates(num_steps: int = 100, **settings: object) -> list[float]:
    """Return the learning rates of all steps, as fractions of their peak."""
    optim = OptimSettings(lr=1.0, **settings)
    return [optim.learning_rate(step, num_steps) for step in range(num_steps + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_rises_to_its_peak_and_then_falls(schedule: str):
    got = rates(schedule=schedule, warmup_fraction=0.1)
    assert got[:11] == sorted(got[:11]) and len(set(got[:11])) == 11
    assert max(got) == got[10] == 1
    assert got[10:] == sorted(got[10:], reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "polynomial"])
@pytest.mark.parametrize("final_fraction", [0.0, 1e-3])
def test_the_learning_rate_ends_at_final_fraction(schedule: str, final_fraction: float):
    got = rates(schedule=schedule, final_fraction=final_fraction)
    assert got[100] == pytest.approx(final_fraction)


def test_learning_rates_halfway():
    half = {
        schedule: rates(schedule=schedule, warmup_fraction=0.0)[50]
        for schedule in ("cosine", "one_cycle", "constant", "polynomial")
    }
    assert half == pytest.approx(
        {"cosine": 0.5, "one_cycle": 0.5, "constant": 1.0, "polynomial": 0.5}
    )
    assert rates(schedule="polynomial", warmup_fraction=0.0, power=2.0)[50] == pytest.approx(0.25)
    assert rates(warmup_fraction=0.0, final_fraction=0.2)[50] == pytest.approx(0.6)


def test_one_cycle_starts_at_a_25th_and_rises_by_a_half_cosine():
    got = rates(schedule="one_cycle", warmup_fraction=0.3)
    assert got[0] == pytest.approx(1 / 25)
    assert got[15] == pytest.approx((1 + 1 / 25) / 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_of_one_step_has_a_positive_rate(schedule: str):
    for warmup_fraction in (0.0, 0.5):
        assert 0 < rates(1, schedule=schedule, warmup_fraction=warmup_fraction)[0] <= 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "cosin"}, "schedule='cosin' is unknown; did you mean 'cosine'?"),
        ({"schedule": "constant", "final_fraction": 0.1}, "schedule=constant ends at its peak"),
        ({"final_fraction": 2.0}, "final_fraction=2.0: it must be in [0, 1]"),
        ({"power": 2.0}, "power=2.0: only schedule=polynomial has a power"),
        ({"power": 0.0}, "power=0.0: it must be above 0"),
        ({"layer_decay": 0.0}, "layer_decay=0.0: it must be in (0, 1]"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(settings: dict, expected: str):
    with pytest.raises(ValueError) as caught:
        OptimSettings(**settings)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


# The weight average


def test_the_average_follows_the_weights_and_forgets_its_start():
    model = nn.Linear(1, 1, bias=False)
    average = build_weight_average(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(5.0)
    for _ in range(60):
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(5.0, abs=0.05)


# In a run


def test_a_run_trains_unfrozen_parameters_at_the_rates_of_their_layers(demo: Path, tmp_path: Path):
    config = make_config(
        *SMALL,
        f"data.root={demo}",
        "trainer.max_epochs=2",
        "optim=one_cycle",
        "optim.freeze=[backbone.conv1,backbone.bn1,backbone.layer1]",
        "optim.layer_decay=0.5",
        "optim.ema_decay=0",
        "loss=focal",
        "loss.class_weight=sqrt",
        "run_dir=.",
    )
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    fresh = build_training_run(config, data, tmp_path, connect_processes(config.trainer)).model
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    training = train(config, data, tmp_path)
    after = training.model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"backbone.layer2.0.conv1.weight", "head.classes.weight"} < changed
    frozen = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    assert not any(name.startswith(frozen) for name in changed)
    last = config.optim.learning_rate(training.total_steps - 1, training.total_steps)
    rates = {group["lr"] / last for group in training.optimizer.param_groups}
    assert sorted(rates, reverse=True)[:2] == pytest.approx([1.0, 0.5])
    with (tmp_path / "metrics.csv").open() as stream:
        logged = [float(row["lr"]) for row in csv.DictReader(stream)]
    assert logged[-1] == pytest.approx(last)
