"""The classifier: backbones and their input sizes, input channels, chunks and layer depths."""

from dataclasses import replace

import numpy as np
import pytest
import timm.optim
import torch
from torch import nn

from birdmix.mix import Mixup2
from birdmix.model.backbone import build_backbone
from birdmix.model.classifier import (
    Classifier,
    is_bypassed,
    join_time_chunks,
    split_into_time_chunks,
    to_channels_last_memory,
)
from birdmix.model.hidden_mix import HiddenMix
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
    model = Classifier(ModelSettings("test_mambaout", head="sed"), num_classes=3)
    shapes = []
    mix = HiddenMix("features", lambda x: shapes.append(x.shape) or x)
    output = model(torch.randn(1, 1, 64, 160), mix)
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


def test_the_backbone_gets_chunks_and_the_hidden_mix_whole_examples():
    model = Classifier(replace(TINY, num_chunks=2, head="sed"), num_classes=3)
    inputs, mixed = [], {}
    model.backbone.register_forward_pre_hook(lambda _, args: inputs.append(args[0].shape))
    for layer in ("input", "layer1", "features", "pooled"):
        mix = HiddenMix(layer, lambda x, layer=layer: mixed.setdefault(layer, x.shape) and x)
        model(torch.randn(2, 1, 32, 129), mix)
    assert set(inputs) == {(4, 1, 32, 65)}
    assert mixed == {
        "input": (2, 1, 32, 129),
        "layer1": (2, 2, 8, 8, 17),  # both chunks of an example
        "features": (2, 8, 1, 6),
        "pooled": (2, 8, 6),
    }


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


# Mixes of hidden layers


LAYERS = ["input", "act1", "layer1", "layer2", "layer3", "layer4", "features", "pooled"]


def flip(values: torch.Tensor) -> torch.Tensor:
    """Exchange first and last example."""
    return values.flip(0)


def assert_that_flips_at_all_layers_flip_the_logits(settings: ModelSettings) -> None:
    torch.manual_seed(0)
    model = Classifier(settings, num_classes=3)
    for module in model.modules():
        if "Drop" in type(module).__name__:  # drop path by default, with a mask per example
            module.eval()
    mel = torch.randn(2, 1, 64, 128)
    with torch.no_grad():
        logits = model(mel).logits
        spread = (logits[0] - logits[1]).abs().amax()
        for layer in model.hidden_layers:
            flipped = model(mel, HiddenMix(layer, flip)).logits
            assert (flipped.flip(0) - logits).abs().amax() < 0.01 * spread, layer


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        replace(TINY, num_chunks=2),
        ModelSettings("test_efficientnet", head="gem"),
        ModelSettings("test_mambaout"),  # features are the last dimension
    ],
    ids=["resnet", "chunks", "efficientnet", "mambaout"],
)
def test_a_layer_is_all_that_the_following_ones_get_of_an_example(settings: ModelSettings):
    assert_that_flips_at_all_layers_flip_the_logits(settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *["resnet34d", "regnety_002", "densenet121", "efficientnet_b0", "tf_efficientnetv2_s"],
        *["rexnet_100", "mobilenetv3_small_050", "hgnetv2_b0", "eca_nfnet_l0", "convnext_atto"],
        *["edgenext_xx_small", "vgg11_bn", "dla34", "fastvit_t8", "focalnet_tiny_srf"],
    ],
)
def test_stages_of_all_kinds_of_backbones_can_be_mixed(name: str):
    assert_that_flips_at_all_layers_flip_the_logits(ModelSettings(name))
    with torch.device("meta"):
        model = Classifier(ModelSettings(name), num_classes=2)
    assert len(model.layout.stages) >= 4
    assert not any(is_bypassed(model, stage, (64, 128)) for stage in model.layout.stages)


def test_hidden_layers_have_the_names_of_the_stages():
    assert Classifier(TINY, 2).hidden_layers == LAYERS


def test_a_stage_beside_a_skip_connection_is_bypassed():
    with torch.device("meta"):
        model = Classifier(ModelSettings("legacy_xception"), num_classes=2)
    assert is_bypassed(model, "block2.rep.0", (64, 128))
    assert not is_bypassed(model, "act4", (64, 128))


class TwoStages(nn.Module):
    """Computes (first x)^2 from inputs x, as a linear stage and its square."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1, bias=False)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return self.first(mel) ** 2


@pytest.mark.parametrize(
    ("layer", "mixed_square"),
    [
        ("input", (0.25 * 1 + 0.75 * 3) ** 2),
        ("first", (0.25 * 1 + 0.75 * 3) ** 2),  # linear, so equal to a mix of its input
        ("features", 0.25 * 1**2 + 0.75 * 3**2),
        ("pooled", 0.25 * 1**2 + 0.75 * 3**2),
    ],
)
def test_logits_and_gradients_of_a_hand_computed_mix(layer: str, mixed_square: float):
    """Inputs 1 and 3, lambda = 1/4, first = 2, classes = 5: the logit is 5 * 2^2 * mixed_square."""
    model = Classifier(replace(TINY, head="gem"), num_classes=1)
    model.backbone, model.head.classes = TwoStages(), nn.Linear(1, 1, bias=False)
    first, classes = model.backbone.first.weight, model.head.classes.weight
    nn.init.constant_(first, 2.0)
    nn.init.constant_(classes, 5.0)
    operator = Mixup2(1.0, 1.0, fixed_lambda=0.25)

    def mix(values: torch.Tensor) -> torch.Tensor:
        return operator(values, torch.eye(2), rng=np.random.default_rng(0)).x

    mel = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).requires_grad_()
    logit = model(mel, HiddenMix(layer, mix)).logits[0, 0]
    torch.testing.assert_close(logit, torch.tensor(5 * 2**2 * mixed_square))
    gradients = torch.autograd.grad(logit, [first, classes, mel])
    assert gradients[0].item() == pytest.approx(5 * 2 * 2 * mixed_square)
    assert gradients[1].item() == pytest.approx(2**2 * mixed_square)
    is_before_square = layer in ("input", "first")
    slopes = [2.5, 2.5] if is_before_square else [1.0, 3.0]  # d(x^2) / dx = 2 x, of the mix or not
    expected = [5 * 2**2 * part * 2 * x for part, x in zip((0.25, 0.75), slopes, strict=True)]
    assert gradients[2].flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_mixes_in_16_bits_and_channels_last_memory_are_those_of_32_bits(layer: str):
    torch.manual_seed(0)
    model = Classifier(replace(TINY, head="sed"), num_classes=3)
    mel = torch.randn(16, 1, 64, 128)
    operator = Mixup2(1.0, 1.0)

    def mix(values: torch.Tensor) -> torch.Tensor:
        return operator(values, torch.eye(16), rng=np.random.default_rng(0)).x

    def run(mel: torch.Tensor) -> list[torch.Tensor]:
        logits = model(mel, HiddenMix(layer, mix)).logits.float()
        parameters = [model.backbone.conv1[0].weight, model.head.classes.weight]
        return [logits.detach(), *torch.autograd.grad(logits.square().mean(), parameters)]

    expected = run(mel)
    model = to_channels_last_memory(model)
    for actual, value in zip(run(mel), expected, strict=True):  # sums in another order
        assert (actual - value).norm() < 1e-3 * value.norm()
    with torch.autocast("cpu", torch.bfloat16):  # 8 bits of mantissa, a dozen layers
        logits, *gradients = run(mel)
    assert (logits - expected[0]).norm() < 0.05 * expected[0].norm()
    for actual, value in zip(gradients, expected[1:], strict=True):
        assert torch.cosine_similarity(actual.flatten(), value.flatten(), dim=0) > 0.85


@pytest.mark.parametrize("layer", LAYERS)
def test_a_hidden_mix_has_no_effect_in_evaluation_mode(layer: str):
    model = Classifier(TINY, num_classes=3).eval()
    mel = torch.randn(2, 1, 32, 64)
    assert torch.equal(model(mel, HiddenMix(layer, flip)).logits, model(mel).logits)


def test_a_mix_of_a_stage_ends_with_the_call_also_after_an_error():
    model = Classifier(TINY, num_classes=3)
    mel = torch.randn(2, 1, 32, 64)
    before = model(mel).logits

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model(mel, HiddenMix("layer1", fail))
    model(mel, HiddenMix("layer1", flip))
    assert torch.equal(model(mel).logits, before)


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
