"""Heads: pooling, attention over frames, several masks of dropout."""

import math

import pytest
import torch

from birdmix.model.classifier import Classifier
from birdmix.model.heads import GeneralisedMean, Head, SoundEventHead, build_head
from birdmix.model.logits import Logits
from birdmix.model.settings import ModelSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}


def sed(dropout: float = 0.0, num_dropouts: int = 1) -> SoundEventHead:
    torch.manual_seed(0)
    return SoundEventHead(4, 3, dropout, num_dropouts)


def test_the_generalised_mean_with_exponent_one_is_the_mean():
    x = torch.rand(2, 3, 4, 5)
    assert torch.allclose(GeneralisedMean(1.0)(x), x.mean(dim=(-2, -1)), atol=1e-5)


def test_frames_are_those_of_time_not_of_frequency():
    assert sed()(torch.randn(2, 4, 5, 7)).frames.shape == (2, 3, 7)


def test_a_clip_that_never_changes_is_heard_as_each_of_its_frames():
    logits = sed()(torch.randn(2, 4, 5, 1).expand(-1, -1, -1, 9))
    torch.testing.assert_close(logits.frames, logits.frames[..., :1].expand(-1, -1, 9))
    torch.testing.assert_close(logits.clip, logits.frames[..., 0])


def test_a_class_attends_to_the_frames_its_attention_names():
    head = sed()
    with torch.no_grad():
        for layer in (head.hidden, head.attention, head.classes):
            layer.weight.zero_()
            layer.bias.zero_()
        head.hidden.weight.copy_(torch.eye(4))
        head.attention.weight[0, 0] = 0.5 * math.log(3)  # smoothing doubles what lasts
        head.classes.weight[0, 1] = 0.5
    features = torch.zeros(1, 4, 1, 6)
    features[0, 0, 0, :3] = 1  # attended to
    features[0, 1, 0, :3] = 2
    logits = head(features)
    frames = logits.frames[0, 0]
    assert frames[:2].tolist() == [2, 2] and frames[4:].tolist() == [0, 0]
    # The frames at the edge: their highest is 1, their mean of three 2/3 and 1/3.
    edge = torch.tensor([3 ** (0.5 * (1 + 2 / 3)), 3 ** (0.5 * (1 + 1 / 3))])
    weights = torch.cat([torch.tensor([3.0, 3.0]), edge, torch.ones(2)])
    expected = (weights * frames).sum() / weights.sum()
    torch.testing.assert_close(logits.clip[0, 0], expected)
    assert logits.clip[0, 1:].tolist() == [0, 0]  # other classes attend to all, and hear nothing


def test_the_frame_maximum_is_the_loudest_frame_of_each_class():
    frames = torch.tensor([[[0.0, 3.0, 1.0], [2.0, -1.0, 0.0]]])
    assert Logits(torch.zeros(1, 2), frames).frame_maximum.tolist() == [[3, 2]]


def test_a_head_without_frames_has_no_frame_maximum():
    with pytest.raises(ValueError, match="model.head=sed"):
        _ = Logits(torch.zeros(1, 2)).frame_maximum


@pytest.mark.parametrize("kind", ["average", "gem", "sed"])
def test_several_masks_give_the_mean_of_their_logits(kind: str):
    features = torch.rand(2, 4, 3, 6)
    many = build_head(ModelSettings(head=kind, dropout=0.5, num_dropouts=3), 4, 2)
    one = build_head(ModelSettings(head=kind, dropout=0.5), 4, 2)
    one.load_state_dict(many.state_dict())
    torch.manual_seed(1)
    together = many(features)
    torch.manual_seed(1)
    apart = [one(features) for _ in range(3)]
    assert not torch.equal(apart[0].clip, apart[1].clip)
    mean = torch.stack([each.clip for each in apart]).mean(dim=0)
    torch.testing.assert_close(together.clip, mean)
    if kind == "sed":
        mean = torch.stack([each.frames for each in apart]).mean(dim=0)
        torch.testing.assert_close(together.frames, mean)


def test_listening_judges_once_and_without_a_mask():
    class Counting(Head):
        judged = 0

        def hear(self, features: torch.Tensor) -> torch.Tensor:
            return features.mean(dim=(-2, -1))

        def judge(self, heard: torch.Tensor) -> Logits:
            self.judged += 1
            return Logits(self.dropout(heard))

    head = Counting(dropout=0.5, num_dropouts=5).eval()
    assert torch.equal(head(torch.ones(2, 4, 3, 6)).clip, torch.ones(2, 4))
    assert head.judged == 1


def test_every_layer_named_as_per_class_has_a_row_for_each():
    for kind in ("average", "gem", "sed"):
        head = build_head(ModelSettings(head=kind), width=4, num_classes=7)
        rows = {n.split(".")[0] for n, each in head.named_parameters() if each.shape[:1] == (7,)}
        assert rows == set(head.per_class)


def test_log_odds_of_a_softmax_are_those_of_its_probabilities():
    logits = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
    read = Logits(logits[..., 0], logits).log_odds()
    assert read.frames is not None
    torch.testing.assert_close(read.clip.sigmoid(), logits[..., 0].softmax(dim=1))
    torch.testing.assert_close(read.frames.sigmoid(), logits.softmax(dim=1))


def test_log_odds_stay_exact_where_one_class_is_sure():
    read = Logits(torch.tensor([[200.0, 0.0, 0.0]])).log_odds().clip
    torch.testing.assert_close(read, torch.tensor([[200 - math.log(2), -200.0, -200.0]]))


def test_a_softmax_is_trained_as_it_is_and_heard_as_odds():
    model = Classifier(ModelSettings("resnet10t", SMALL), num_classes=3, softmax=True)
    mel = torch.randn(2, 1, 32, 64)
    heard = model.eval()(mel).clip
    assert torch.allclose(heard.sigmoid().sum(dim=1), torch.ones(2))
    trained = model.train()(mel).clip
    assert not torch.allclose(trained.sigmoid().sum(dim=1), torch.ones(2), atol=1e-3)
