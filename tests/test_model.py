"""The classifier."""

import pytest
import torch

from birdmix.model.classifier import Classifier, GeneralisedMean
from birdmix.model.settings import ModelSettings

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
