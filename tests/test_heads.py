"""Heads: pooling, attention over frames, several dropout masks, log-odds of a softmax."""

import math

import pytest
import torch

from birdmix.model.classifier import Classifier
from birdmix.model.classifier_output import ClassifierOutput
from birdmix.model.heads import GeneralisedMeanPooling, Head, SoundEventHead, build_head
from birdmix.model.settings import HEADS, ModelSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}


def sed() -> SoundEventHead:
    torch.manual_seed(0)
    return SoundEventHead(ModelSettings(), 4, 3)


def test_the_generalised_mean_with_exponent_one_is_the_mean():
    x = torch.rand(2, 3, 4, 5)
    assert torch.allclose(GeneralisedMeanPooling(1.0)(x), x.mean(dim=(-2, -1)), atol=1e-5)


def test_frame_logits_run_along_time():
    assert sed()(torch.randn(2, 4, 5, 7)).frame_logits.shape == (2, 3, 7)


def test_logits_of_a_constant_input_are_those_of_each_frame():
    output = sed()(torch.randn(2, 4, 5, 1).expand(-1, -1, -1, 9))
    torch.testing.assert_close(output.frame_logits, output.frame_logits[..., :1].expand(-1, -1, 9))
    torch.testing.assert_close(output.logits, output.frame_logits[..., 0])


def test_logits_are_the_mean_of_frame_logits_by_the_attention():
    head = sed()
    with torch.no_grad():
        for layer in (head.hidden, head.attention, head.classes):
            layer.weight.zero_()
            layer.bias.zero_()
        head.hidden.weight.copy_(torch.eye(4))
        head.attention.weight[0, 0] = 0.5 * math.log(
            3
        )  # smoothing adds maximum and mean, so it doubles constants
        head.classes.weight[0, 1] = 0.5
    features = torch.zeros(1, 4, 1, 6)
    features[0, 0, 0, :3] = 1  # attended to
    features[0, 1, 0, :3] = 2
    output = head(features)
    frames = output.frame_logits[0, 0]
    assert frames[:2].tolist() == [2, 2] and frames[4:].tolist() == [0, 0]
    # The two frames at the edge: the maximum is 1, the mean of three is 2/3 and 1/3.
    edge = torch.tensor([3 ** (0.5 * (1 + 2 / 3)), 3 ** (0.5 * (1 + 1 / 3))])
    weights = torch.cat([torch.tensor([3.0, 3.0]), edge, torch.ones(2)])
    expected = (weights * frames).sum() / weights.sum()
    torch.testing.assert_close(output.logits[0, 0], expected)
    assert output.logits[0, 1:].tolist() == [
        0,
        0,
    ]  # other classes have equal attention and no features


def test_the_frame_maximum_is_the_largest_frame_logit_of_each_class():
    frames = torch.tensor([[[0.0, 3.0, 1.0], [2.0, -1.0, 0.0]]])
    assert ClassifierOutput(torch.zeros(1, 2), frames).max_frame_logits.tolist() == [[3, 2]]


def test_a_head_without_frames_has_no_frame_maximum():
    with pytest.raises(ValueError, match="model.head=sed"):
        _ = ClassifierOutput(torch.zeros(1, 2)).max_frame_logits


@pytest.mark.parametrize("kind", HEADS)
def test_several_dropout_masks_give_the_mean_of_their_logits(kind: str):
    features = torch.rand(2, 4, 3, 6)
    many = build_head(ModelSettings(head=kind, dropout=0.5, num_dropouts=3), 4, 2)
    one = build_head(ModelSettings(head=kind, dropout=0.5), 4, 2)
    one.load_state_dict(many.state_dict())
    torch.manual_seed(1)
    together = many(features)
    torch.manual_seed(1)
    apart = [one(features) for _ in range(3)]
    assert not torch.equal(apart[0].logits, apart[1].logits)
    mean = torch.stack([each.logits for each in apart]).mean(dim=0)
    torch.testing.assert_close(together.logits, mean)
    if HEADS[kind].has_frame_logits:
        mean = torch.stack([each.frame_logits for each in apart]).mean(dim=0)
        torch.testing.assert_close(together.frame_logits, mean)


def test_in_evaluation_the_head_classifies_once_and_without_dropout():
    class CountingHead(Head):
        num_calls = 0

        def pool_features(self, features: torch.Tensor) -> torch.Tensor:
            return features.mean(dim=(-2, -1))

        def classify(self, pooled: torch.Tensor) -> ClassifierOutput:
            self.num_calls += 1
            return ClassifierOutput(self.dropout(pooled))

    head = CountingHead(ModelSettings(dropout=0.5, num_dropouts=5)).eval()
    assert torch.equal(head(torch.ones(2, 4, 3, 6)).logits, torch.ones(2, 4))
    assert head.num_calls == 1


def test_class_layers_have_a_row_for_each_class():
    for kind in HEADS:
        head = build_head(ModelSettings(head=kind), width=4, num_classes=7)
        rows = {n.split(".")[0] for n, each in head.named_parameters() if each.shape[:1] == (7,)}
        assert rows == set(head.class_layers)


def test_the_sigmoid_of_log_odds_is_the_softmax():
    logits = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    output = ClassifierOutput(logits[..., 0], logits).softmax_to_log_odds()
    assert output.frame_logits is not None
    torch.testing.assert_close(output.logits.sigmoid(), logits[..., 0].softmax(dim=1))
    torch.testing.assert_close(output.frame_logits.sigmoid(), logits.softmax(dim=1))


def test_log_odds_are_exact_where_one_probability_is_near_one():
    odds = ClassifierOutput(torch.tensor([[200.0, 0.0, 0.0]])).softmax_to_log_odds().logits
    torch.testing.assert_close(odds, torch.tensor([[200 - math.log(2), -200.0, -200.0]]))


def test_a_softmax_classifier_gives_log_odds_in_evaluation_only():
    model = Classifier(ModelSettings("resnet10t", SMALL), num_classes=3, softmax=True)
    mel = torch.randn(2, 1, 32, 64)
    odds = model.eval()(mel).logits
    assert torch.allclose(odds.sigmoid().sum(dim=1), torch.ones(2))
    trained = model.train()(mel).logits
    assert not torch.allclose(trained.sigmoid().sum(dim=1), torch.ones(2), atol=1e-3)
