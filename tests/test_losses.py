"""Losses."""

import math

import pytest
import torch

from birdmix.model.losses import soft_bce


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
