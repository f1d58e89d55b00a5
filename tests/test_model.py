"""The classifier: its backbone, what that sees, and how deep its layers lie."""

from dataclasses import replace

import pytest
import timm.optim
import torch
from torch import nn

from birdmix.model.backbone import build_backbone
from birdmix.model.classifier import Classifier, join, split
from birdmix.model.settings import ModelSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}
TINY = ModelSettings("resnet10t", dict(SMALL))


class Frames(nn.Module):
    """A backbone whose features are the frames themselves."""

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return mel


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"resnet10x.*did you mean 'resnet\d+\w'"):
        Classifier(ModelSettings("resnet10x"), num_classes=2)
    with pytest.raises(ValueError, match=r"no such weights; did you mean 'resnet10t.c3_in1k'"):
        Classifier(ModelSettings("resnet10t.c3_in2k"), num_classes=2)


@pytest.mark.parametrize("name", ["", "hf-hub:someone/something"])
def test_a_name_that_is_near_none_is_not_answered_with_all_of_them(name: str):
    with pytest.raises(ValueError, match=r"is no timm model; timm.list_models\(\) lists them$"):
        Classifier(ModelSettings(name), num_classes=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ModelSettings("resnet10t", {"wings": 2}), r"model.backbone_args=\{'wings': 2\}"),
        *(
            (ModelSettings("resnet10t", arguments), r"model.backbone_args=.*does not take them")
            for arguments in (
                *({"act_layer": "rellu"}, {"norm_layer": "foo"}),
                *({"layers": [1]}, {"output_stride": 7}),
            )
        ),
        (ModelSettings("vgg11", drop_path=0.1), "model.drop_path=0.1: vgg11 has none"),
        (ModelSettings("test_vit", {"img_size": 32}), "no map over frequency and time but"),
        (ModelSettings("test_vit"), r"160 x 160 only.*backbone_args.img_size=\[MELS,FRAMES\]"),
        (ModelSettings("inception_next_atto"), "gives no feature map .*choose another"),
        (ModelSettings("test_maxvit", {"img_size": 33}), "not take pictures of 1 x 33 x 33"),
    ],
)
def test_a_backbone_that_cannot_do_what_is_asked_is_refused(settings: ModelSettings, said: str):
    with pytest.raises(ValueError, match=said) as refused:
        Classifier(settings, num_classes=2)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ModelSettings("test_maxvit", {"img_size": 64}), "not take pictures of 1 x 64 x 96 .*set"),
        (ModelSettings("test_vit"), "160 x 160 only; say what it gets with"),
    ],
)
def test_a_backbone_of_one_size_is_told_the_size_it_is_going_to_see(
    settings: ModelSettings, said: str
):
    with pytest.raises(ValueError, match=rf"{said} \+?model.backbone_args.img_size=\[64,96\]"):
        build_backbone(settings, picture=(64, 96))
    build_backbone(ModelSettings("test_maxvit", {"img_size": [64, 96]}), picture=(64, 96))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"head": "sad"}, "head='sad'.*did you mean 'sed'"),
        ({"channels": "stereo"}, "channels='stereo'"),
        ({"drop_path": 1.0}, r"drop_path=1.0: it lies in \[0, 1\)"),
        ({"parts": 0}, "parts=0: it is at least 1"),
        ({"num_dropouts": 3}, "num_dropouts=3 needs a dropout above 0"),
        ({"backbone_args": {"in_chans": 3}}, "backbone_args.in_chans is said by channels"),
        ({"backbone_args": {"checkpoint_path": "/a"}}, "checkpoint_path is said by weights"),
        ({"backbone_args": {"pretrained_cfg": "a"}}, "said by backbone, as NAME.TAG"),
        ({"pretrained": True, "weights": "a.pth"}, "choose one"),
    ],
)
def test_settings_that_contradict_are_refused(arguments: dict, said: str):
    with pytest.raises(ValueError, match=said):
        ModelSettings(**arguments)


@pytest.mark.parametrize("channels", ["mono", "repeated", "deltas"])
@pytest.mark.parametrize("head", ["average", "sed"])
def test_a_classifier_gives_a_logit_per_class(channels: str, head: str):
    model = Classifier(replace(TINY, channels=channels, head=head), num_classes=5)
    logits = model(torch.randn(2, 1, 32, 64))
    assert logits.clip.shape == (2, 5)
    assert (logits.frames is None) is (head == "average")


def test_a_backbone_whose_features_come_last_is_turned():
    model = Classifier(ModelSettings("test_mambaout", head="sed"), num_classes=3).eval()
    shapes = []
    logits = model(torch.randn(1, 1, 64, 160), lambda map_: shapes.append(map_.shape) or map_)
    assert shapes == [(1, 256, 2, 5)] and logits.frames.shape == (1, 3, 5)


def test_a_backbone_that_widens_its_features_at_the_end_is_heard_whole():
    model = Classifier(ModelSettings("lcnet_035", head="average"), num_classes=3).eval()
    assert model.head.classes.in_features == model.backbone.head_hidden_size
    assert model(torch.randn(1, 1, 64, 64)).clip.shape == (1, 3)


def test_drop_path_reaches_the_backbone():
    model = Classifier(replace(TINY, drop_path=0.2), 2)
    assert max(getattr(each, "drop_prob", 0) for each in model.modules()) == pytest.approx(0.2)


def test_repeated_channels_hold_the_mel_three_times():
    model = Classifier(replace(TINY, channels="repeated", head="average"), 2)
    model.backbone, model.head = Frames(), nn.Identity()
    mel = torch.randn(2, 1, 4, 6)
    assert torch.equal(model(mel), mel.repeat(1, 3, 1, 1))


def test_parts_of_equal_width_hold_every_frame_in_order():
    mel = torch.arange(10.0).expand(2, 1, 3, 10)
    parts = split(mel, 3)
    assert [each[0, 0].int().tolist() for each in parts[:3]] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]
    assert set(parts[3:].flatten().int().tolist()) == set(range(10))


def test_parts_are_joined_along_time_clip_by_clip():
    mel = torch.randn(3, 1, 4, 12)
    assert torch.equal(join(split(mel, 4), 4), mel)


def test_the_backbone_sees_parts_and_the_mix_sees_clips():
    model = Classifier(replace(TINY, parts=2), num_classes=3)
    seen, mixed = [], []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    model(torch.randn(2, 1, 32, 129), lambda map_: mixed.append(map_.shape) or map_)
    assert seen == [(4, 1, 32, 65)] and mixed == [(2, 8, 1, 6)]


def test_silent_parts_are_heard_as_a_clip_of_their_own():
    torch.manual_seed(0)
    whole = Classifier(replace(TINY, head="average"), num_classes=3).eval()
    parted = Classifier(replace(TINY, head="average", parts=2), num_classes=3).eval()
    parted.load_state_dict(whole.state_dict())
    first, second = torch.randn(2, 2, 1, 32, 64)
    means = (whole(first).clip + whole(second).clip) / 2  # linear after the mean over time
    heard = parted(torch.cat([first, second], dim=-1)).clip
    torch.testing.assert_close(heard, means, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "backbone", [TINY, ModelSettings("test_convnext2"), ModelSettings("test_efficientnet")]
)
def test_layers_learn_the_slower_the_deeper_they_lie(backbone: ModelSettings):
    model = Classifier(replace(backbone, head="sed"), num_classes=2)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.5)
    scale = {p: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(scale)
    assert scale.keys() == set(model.parameters())
    assert {scale[each] for each in model.head.parameters()} == {1}
    assert max(scale[each] for each in model.backbone.parameters()) == 0.5
    stem = model.backbone.pretrained_cfg["first_conv"]
    assert scale[model.backbone.get_submodule(stem).weight] == min(scale.values()) < 0.2


def test_a_backbone_says_which_weights_are_to_be_spared():
    model = Classifier(replace(TINY), num_classes=2)
    model.backbone.no_weight_decay = lambda: {"scale"}
    assert model.no_weight_decay() == {"backbone.scale"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *["resnet34d", "seresnext26t_32x4d", "ecaresnet26t", "regnety_002", "densenet121"],
        *["efficientnet_b0", "tf_efficientnet_b0.ns_jft_in1k", "tf_efficientnetv2_s", "rexnet_100"],
        *["mobilenetv3_small_050", "mobilenetv4_conv_small", "ghostnet_100", "hgnetv2_b0"],
        *["eca_nfnet_l0", "convnext_atto", "convnextv2_atto", "mambaout_femto", "repvit_m0_9"],
        *["edgenext_xx_small", "caformer_s18", "pvt_v2_b0", "focalnet_tiny_srf", "xception41"],
        *["inception_v4", "nextvit_small", "vgg11_bn", "dla34", "res2net50_14w_8s", "fastvit_t8"],
    ],
)
def test_any_backbone_that_gives_a_map_learns(name: str):
    model = Classifier(ModelSettings(name, head="sed"), num_classes=3)
    logits = model(torch.randn(2, 1, 128, 160))
    assert logits.clip.shape == logits.frames.shape[:2] == (2, 3)
    logits.clip.sum().backward()
    assert all(each.grad is not None for each in model.parameters())
