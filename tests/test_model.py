"""The classifier: backbones and their input sizes, input channels, chunks and layer depths."""

from dataclasses import replace

import pytest
import timm.optim
import torch
from torch import nn

from birdmix.model.backbone import build_backbone
from birdmix.model.classifier import Classifier, join_time_chunks, split_into_time_chunks
from birdmix.model.input_channels import INPUT_CHANNELS
from birdmix.model.settings import HEADS, ModelSettings

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}
TINY = ModelSettings("resnet10t", dict(SMALL))


class IdentityBackbone(nn.Module):
    """A backbone whose feature map is its input."""

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return mel


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"resnet10x.*did you mean 'resnet\d+\w'"):
        Classifier(ModelSettings("resnet10x"), num_classes=2)
    with pytest.raises(ValueError, match=r"no such weights; did you mean 'resnet10t.c3_in1k'"):
        Classifier(ModelSettings("resnet10t.c3_in2k"), num_classes=2)


@pytest.mark.parametrize("name", ["", "hf-hub:someone/something"])
def test_a_name_without_a_near_match_is_refused_without_a_list_of_all_names(name: str):
    with pytest.raises(ValueError, match=r"is not a timm model; timm.list_models\(\) lists them$"):
        Classifier(ModelSettings(name), num_classes=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ModelSettings("resnet10t", {"wings": 2}), r"model.backbone_args=\{'wings': 2\}"),
        *(
            (ModelSettings("resnet10t", arguments), r"model.backbone_args=.*does not accept them")
            for arguments in (
                *({"act_layer": "rellu"}, {"norm_layer": "foo"}),
                *({"layers": [1]}, {"output_stride": 7}),
            )
        ),
        (
            ModelSettings("vgg11", drop_path=0.1),
            "model.drop_path=0.1: vgg11 has no stochastic depth",
        ),
        (ModelSettings("test_vit", {"img_size": 32}), "not a feature map over frequency and time"),
        (ModelSettings("test_vit"), r"160 x 160 only.*backbone_args.img_size=\[MELS,FRAMES\]"),
        (ModelSettings("inception_next_atto"), "has no feature map .*choose another"),
        (ModelSettings("test_maxvit", {"img_size": 33}), "not accept inputs of 1 x 33 x 33"),
    ],
)
def test_backbone_settings_that_timm_does_not_support_are_refused(
    settings: ModelSettings, message: str
):
    with pytest.raises(ValueError, match=message) as refused:
        Classifier(settings, num_classes=2)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ModelSettings("test_maxvit", {"img_size": 64}), "not accept inputs of 1 x 64 x 96 .*set"),
        (ModelSettings("test_vit"), "160 x 160 only; set the input size with"),
    ],
)
def test_a_wrong_input_size_is_refused_with_the_right_argument(
    settings: ModelSettings, message: str
):
    with pytest.raises(ValueError, match=rf"{message} \+?model.backbone_args.img_size=\[64,96\]"):
        build_backbone(settings, input_size=(64, 96))
    build_backbone(ModelSettings("test_maxvit", {"img_size": [64, 96]}), input_size=(64, 96))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "sad"}, "head='sad'.*did you mean 'sed'"),
        ({"channels": "stereo"}, "channels='stereo'"),
        ({"drop_path": 1.0}, r"drop_path=1.0: it must be in \[0, 1\)"),
        ({"num_chunks": 0}, "num_chunks=0: it must be at least 1"),
        ({"num_dropouts": 3}, "num_dropouts=3 needs a dropout above 0"),
        ({"backbone_args": {"in_chans": 3}}, "backbone_args.in_chans is set by channels"),
        ({"backbone_args": {"checkpoint_path": "/a"}}, "checkpoint_path is set by weights"),
        ({"backbone_args": {"pretrained_cfg": "a"}}, "set by backbone, as NAME.TAG"),
        ({"pretrained": True, "weights": "a.pth"}, "choose one"),
    ],
)
def test_contradicting_settings_are_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ModelSettings(**arguments)


@pytest.mark.parametrize("channels", INPUT_CHANNELS)
@pytest.mark.parametrize("head", HEADS)
def test_a_classifier_computes_a_logit_per_class(channels: str, head: str):
    model = Classifier(replace(TINY, channels=channels, head=head), num_classes=5)
    output = model(torch.randn(2, 1, 32, 64))
    assert output.logits.shape == (2, 5)
    assert (output.frame_logits is not None) is HEADS[head].has_frame_logits


def test_channels_last_features_are_permuted():
    model = Classifier(ModelSettings("test_mambaout", head="sed"), num_classes=3).eval()
    shapes = []
    output = model(torch.randn(1, 1, 64, 160), lambda x: shapes.append(x.shape) or x)
    assert shapes == [(1, 256, 2, 5)] and output.frame_logits.shape == (1, 3, 5)


def test_the_head_gets_the_features_of_a_final_wider_convolution():
    model = Classifier(ModelSettings("lcnet_035", head="average"), num_classes=3).eval()
    assert model.head.classes.in_features == model.backbone.head_hidden_size
    assert model(torch.randn(1, 1, 64, 64)).logits.shape == (1, 3)


def test_drop_path_is_passed_to_the_backbone():
    model = Classifier(replace(TINY, drop_path=0.2), 2)
    assert max(getattr(each, "drop_prob", 0) for each in model.modules()) == pytest.approx(0.2)


def test_repeated_channels_are_three_copies_of_the_mel():
    model = Classifier(replace(TINY, channels="repeated", head="average"), 2)
    model.backbone, model.head = IdentityBackbone(), nn.Identity()
    mel = torch.randn(2, 1, 4, 6)
    assert torch.equal(model(mel), mel.repeat(1, 3, 1, 1))


def test_chunks_of_equal_width_contain_every_frame_in_order():
    mel = torch.arange(10.0).expand(2, 1, 3, 10)
    chunks = split_into_time_chunks(mel, 3)
    assert [each[0, 0].int().tolist() for each in chunks[:3]] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]
    assert set(chunks[3:].flatten().int().tolist()) == set(range(10))


def test_chunks_are_joined_along_time_for_each_example():
    mel = torch.randn(3, 1, 4, 12)
    assert torch.equal(join_time_chunks(split_into_time_chunks(mel, 4), 4), mel)


def test_the_backbone_gets_chunks_and_the_hidden_mix_whole_feature_maps():
    model = Classifier(replace(TINY, num_chunks=2), num_classes=3)
    inputs, mixed = [], []
    model.backbone.register_forward_pre_hook(lambda _, args: inputs.append(args[0].shape))
    model(torch.randn(2, 1, 32, 129), lambda x: mixed.append(x.shape) or x)
    assert inputs == [(4, 1, 32, 65)] and mixed == [(2, 8, 1, 6)]


def test_each_chunk_is_processed_like_an_input_of_its_own():
    torch.manual_seed(0)
    whole = Classifier(replace(TINY, head="average"), num_classes=3).eval()
    in_chunks = Classifier(replace(TINY, head="average", num_chunks=2), num_classes=3).eval()
    in_chunks.load_state_dict(whole.state_dict())
    first, second = torch.randn(2, 2, 1, 32, 64)
    means = (whole(first).logits + whole(second).logits) / 2  # linear after the mean over time
    logits = in_chunks(torch.cat([first, second], dim=-1)).logits
    torch.testing.assert_close(logits, means, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "backbone", [TINY, ModelSettings("test_convnext2"), ModelSettings("test_efficientnet")]
)
def test_layer_decay_lowers_the_learning_rate_with_depth(backbone: ModelSettings):
    model = Classifier(replace(backbone, head="sed"), num_classes=2)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.5)
    scale = {p: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(scale)
    assert scale.keys() == set(model.parameters())
    assert {scale[each] for each in model.head.parameters()} == {1}
    assert max(scale[each] for each in model.backbone.parameters()) == 0.5
    stem = model.backbone.pretrained_cfg["first_conv"]
    assert scale[model.backbone.get_submodule(stem).weight] == min(scale.values()) < 0.2


def test_parameters_that_a_backbone_excludes_have_no_weight_decay():
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
def test_all_parameters_of_a_backbone_with_a_feature_map_get_gradients(name: str):
    model = Classifier(ModelSettings(name, head="sed"), num_classes=3)
    output = model(torch.randn(2, 1, 128, 160))
    assert output.logits.shape == output.frame_logits.shape[:2] == (2, 3)
    output.logits.sum().backward()
    assert all(each.grad is not None for each in model.parameters())
