"""Where weights come from: timm's hub, a file, the stage before."""

import json
import re
import shutil
import time
import urllib.error
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import safetensors.torch
import timm
import timm.models._builder
import torch
from torch import Tensor

from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.bundle.weights import load_classifier, read_weights, write_bundle
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.model import backbone, weights
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings
from birdmix.model.stages import carry_over
from birdmix.model.weight_file import read_weight_file
from birdmix.training.checkpoint import LAST, load_checkpoint, save_checkpoint

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}
TINY = ModelSettings("resnet10t", dict(SMALL), head="sed")
PLAIN = ModelSettings("resnet10t", head="sed")


def pictures(**arguments: object) -> torch.nn.Module:
    """A network that learned from pictures in three colours."""
    torch.manual_seed(7)
    return timm.create_model("resnet10t", num_classes=10, **{**SMALL, **arguments}).eval()


def saved(state: dict[str, Tensor], folder: Path, form: str) -> str:
    file = folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        wrapped = {f"module.{name}": each for name, each in state.items()}
        torch.save({"plain": state, "state_dict": {"state_dict": wrapped, "epoch": 3}}[form], file)
    return str(file)


def answers_as(model: Classifier, network: torch.nn.Module) -> bool:
    mel = torch.randn(2, 1, 32, 64)
    ours = model.eval().backbone(mel.expand(-1, model.backbone.conv1[0].in_channels, -1, -1))
    return torch.allclose(ours, network.forward_features(mel.expand(-1, 3, -1, -1)), atol=1e-4)


@pytest.mark.parametrize(
    ("form", "channels"),
    [("safetensors", "mono"), ("plain", "mono"), ("state_dict", "repeated")],
)
def test_a_file_of_weights_is_taken_whatever_its_form(tmp_path: Path, form: str, channels: str):
    network = pictures()
    file = saved(network.state_dict(), tmp_path, form)
    assert answers_as(Classifier(replace(TINY, weights=file, channels=channels), 3), network)


def test_the_names_that_an_architecture_was_published_with_are_translated(tmp_path: Path):
    own = timm.create_model("test_convnext", num_classes=10).state_dict()
    theirs = {"stem": "downsample_layers.0", "head.norm": "norm", "head.fc": "head"}
    state = {}
    for name, each in own.items():
        for ours, other in theirs.items():
            name = re.sub(f"^{re.escape(ours)}", other, name)
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        name = name.replace(".blocks", "").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        state[name] = each
    file = saved(state, tmp_path, "plain")
    model = Classifier(ModelSettings("test_convnext", channels="repeated", weights=file), 3)
    for name, each in model.backbone.state_dict().items():
        assert torch.equal(each, own[name])


def test_the_weights_of_a_mono_backbone_fit_three_channels(tmp_path: Path):
    mono = Classifier(TINY, 3).eval()
    file = saved(mono.state_dict(), tmp_path, "safetensors")
    model = Classifier(replace(TINY, weights=file, channels="repeated"), 5).eval()
    mel = torch.randn(2, 1, 32, 64)
    torch.testing.assert_close(model.backbone(mel.expand(-1, 3, -1, -1)), mono.backbone(mel))


def test_published_weights_are_fetched_only_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    network = timm.create_model("resnet10t", num_classes=10).eval()
    asked = []

    def hub(hub_id: str, **_: object) -> dict[str, Tensor]:
        asked.append(hub_id)
        return network.state_dict()

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", hub)
    monkeypatch.setattr(weights, "_reach", lambda *_: None)
    assert not answers_as(Classifier(PLAIN, 3), network) and not asked
    assert answers_as(Classifier(replace(PLAIN, pretrained=True), 3), network)
    assert asked == ["timm/resnet10t.c3_in1k"]


def test_without_a_network_the_file_and_the_way_to_use_it_are_named(
    monkeypatch: pytest.MonkeyPatch,
):
    def urlopen(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(weights.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match="no route") as refused:
        Classifier(replace(PLAIN, pretrained=True), 3)
    said = str(refused.value)
    assert "model.pretrained=true: the weights of resnet10t" in said and "\n" not in said
    assert "download model.safetensors from" in said and "timm/resnet10t.c3_in1k" in said
    assert "model.weights=FILE model.pretrained=false" in said


def test_a_backbone_without_published_weights_says_so():
    with pytest.raises(ValueError, match="no published weights of resnet50t.*did you mean"):
        Classifier(ModelSettings("resnet50t", pretrained=True), 3)


def fault(settings: ModelSettings) -> str:
    with pytest.raises(ValueError) as refused:
        Classifier(settings, 3)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            SMALL,
            r"changes the shape of 76 tensors \(conv1.0.weight, .*\.\.\.\); published weights ",
        ),
        ({"layers": (1, 1, 1, 2)}, "for the plain resnet10t: model=timm model.backbone=resnet10t"),
        ({"act_layer": "rellu"}, "resnet10t does not take them .*rellu"),
    ],
)
def test_arguments_that_published_weights_cannot_follow_are_told_before_any_network(
    monkeypatch: pytest.MonkeyPatch, arguments: dict, said: str
):
    monkeypatch.setattr(weights, "_reach", lambda *_: pytest.fail("asked a network"))
    told = fault(ModelSettings("resnet10t", dict(arguments), pretrained=True))
    assert re.search(said, told) and "model.backbone_args={" in told


def test_published_weights_are_fitted_to_the_size_of_pictures(monkeypatch: pytest.MonkeyPatch):
    fetched = []
    monkeypatch.setattr(backbone, "with_published", lambda make, _: fetched.append(1) or make())
    Classifier(ModelSettings("test_maxvit", {"img_size": [32, 64]}, pretrained=True), 3)
    assert fetched


def test_weights_of_another_shape_are_refused_layer_by_layer(tmp_path: Path):
    file = saved(pictures(stem_width=16).state_dict(), tmp_path, "plain")
    said = fault(replace(TINY, weights=file))
    assert f"model.weights={file} does not fit model.backbone=resnet10t" in said
    assert "conv1.0.weight [12, 1, 3, 3] instead of [6, 1, 3, 3]" in said
    assert "of its tensors have another shape" in said and "model.backbone_args" in said


def test_weights_of_a_deeper_or_shallower_backbone_are_refused(tmp_path: Path):
    state = pictures().state_dict()
    more = {**state, "layer1.1.conv1.weight": torch.zeros(8, 8, 3, 3)}
    said = fault(replace(TINY, weights=saved(more, tmp_path, "plain")))
    assert "1 are of no layer here (layer1.1.conv1.weight)" in said
    del state["layer1.0.conv1.weight"]
    said = fault(replace(TINY, weights=saved(state, tmp_path, "plain")))
    assert "1 are missing (layer1.0.conv1.weight)" in said


def test_files_that_are_absent_damaged_or_could_run_code_are_refused(tmp_path: Path):
    assert "there is no such file" in fault(replace(TINY, weights=str(tmp_path / "none.pth")))
    for name in ("torn.safetensors", "torn.pth"):
        (tmp_path / name).write_bytes(b"PK\3\4 half of it")
        assert "damaged" in fault(replace(TINY, weights=str(tmp_path / name)))
    torch.save({"state_dict": pictures().state_dict(), "by": Fraction(1)}, tmp_path / "a.pth")
    assert "could run code" in fault(replace(TINY, weights=str(tmp_path / "a.pth")))
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    assert "holds more than weights" in fault(replace(TINY, weights=str(tmp_path / "b.pth")))


@pytest.mark.parametrize("name", ["cached", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("form", ["safetensors", "plain"])
def test_a_file_is_read_by_what_it_holds_not_by_its_name(tmp_path: Path, name: str, form: str):
    state = pictures().state_dict()
    file = Path(saved(state, tmp_path, form)).rename(tmp_path / name)
    assert read_weight_file(file).keys() == state.keys()


@pytest.mark.parametrize("prefix", ["model.", "model.backbone.", "module.", "backbone.", "a.b.c."])
def test_what_all_names_begin_with_is_left_out(tmp_path: Path, prefix: str):
    network = pictures()
    state = {prefix + name: each for name, each in network.state_dict().items()}
    file = saved(
        {**state, "head.weight": torch.zeros(3)} if prefix == "model.backbone." else state,
        tmp_path,
        "plain",
    )
    assert answers_as(Classifier(replace(TINY, weights=file), 3), network)


def test_a_folder_is_refused_with_the_file_in_it(tmp_path: Path):
    assert f"init_from={tmp_path}" in fault(replace(TINY, weights=str(tmp_path)))
    (tmp_path / "model.safetensors").touch()
    said = fault(replace(TINY, weights=str(tmp_path)))
    assert f"is a folder; name {tmp_path / 'model.safetensors'}" in said


def test_a_checkpoint_of_a_run_is_refused_for_its_averaged_weights(tmp_path: Path):
    state = {"position": {}, "model": pictures().state_dict(), "average": None, "audit": [1]}
    save_checkpoint(tmp_path, state)
    said = fault(replace(TINY, weights=str(tmp_path / LAST)))
    assert "is a checkpoint of birdmix; init_from=RUN_DIR" in said


class _Bytes:
    """Pickles as a call for a byte array of 10 GB."""

    def __reduce__(self) -> tuple:
        return bytearray, (10**10,)


def compressed(file: Path) -> None:
    """Write a zip bomb: an archive of torch's form, 100 MB of zeros in 100 kB."""
    torch.save({"a": torch.zeros(25_000_000)}, file)
    with zipfile.ZipFile(file) as archive:
        records = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    assert file.stat().st_size < 1_000_000


def saving(content: Callable[[], object], legacy: bool = False) -> Callable[[Path], None]:
    return lambda file: torch.save(content(), file, _use_new_zipfile_serialization=not legacy)


def many_views() -> dict[str, Tensor]:
    base = torch.zeros(100_000)
    return {str(k): base[k:] for k in range(1_000)}


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip bomb": (compressed, "it is a compressed archive"),
    "expanded": (saving(lambda: {"a": torch.zeros(1).expand(10**12)}), "its tensors take 4,000,0"),
    "expanded, legacy": (
        saving(lambda: {"a": torch.zeros(1).expand(10**6, 10**6)}, legacy=True),
        "its tensors take 4,000,000,000,000 bytes",
    ),
    "expanded, deep": (
        saving(lambda: {"state_dict": {"epoch": 1, "b": [{"a": torch.zeros(1).expand(10**10)}]}}),
        "its tensors take 40,000,000,000 bytes",
    ),
    "views": (saving(many_views), "its tensors take"),
    "bytes": (saving(lambda: {"a": _Bytes()}), "it holds byte arrays"),
    "bytes, legacy": (saving(lambda: {"a": _Bytes()}, legacy=True), "it holds byte arrays"),
    "meta": (saving(lambda: {"a": torch.empty(10**12, device="meta")}), "without values"),
    "sparse": (saving(lambda: {"a": torch.eye(3).to_sparse()}), "it holds tensors that are sparse"),
    "header": (
        lambda file: file.write_bytes((10**8).to_bytes(8, "little") + b"{" + b" " * (10**8)),
        "a header of more than 16,000,000 bytes",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_would_take_more_memory_than_they_hold_are_refused(name: str, tmp_path: Path):
    write, said = HOSTILE[name]
    file = tmp_path / "weights.pth"
    write(file)
    began = time.perf_counter()
    told = fault(replace(TINY, weights=str(file)))
    assert said in told and f"model.weights={file}: damaged (" in told
    file.rename(tmp_path / LAST)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged or not a checkpoint \("):
        load_checkpoint(tmp_path)
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float):
    state = pictures().state_dict()
    state["conv1.0.weight"][0] = value
    said = fault(replace(TINY, weights=saved(state, tmp_path, "plain")))
    assert "1 of its tensors are not finite (conv1.0.weight)" in said


def test_a_bundle_rebuilds_its_classifier_without_the_file_it_began_with(tmp_path: Path):
    file = saved(pictures().state_dict(), tmp_path, "safetensors")
    settings = replace(TINY, weights=file, parts=2, channels="deltas", dropout=0.1, num_dropouts=2)
    model = Classifier(settings, 2).eval()
    manifest = Manifest(Labels(("a", "b")), LogMelSettings(), settings, 1.0)
    write_bundle(tmp_path / "bundle", manifest, model.state_dict())
    Path(file).unlink()
    mel = torch.randn(1, 1, 32, 64)
    again = load_classifier(tmp_path / "bundle", manifest)
    assert torch.equal(again(mel).clip, model(mel).clip)
    assert read_weights(tmp_path / "bundle").keys() == model.state_dict().keys()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two classes."""
    folder = tmp_path_factory.mktemp("sound") / "bundle"
    manifest = Manifest(Labels(("a", "b")), LogMelSettings(), TINY, 1.0)
    write_bundle(folder, manifest, Classifier(TINY, 2).state_dict())
    return folder


def header_of(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 100, "a header of more than 16,000,000 bytes"),
        ((10**8).to_bytes(8, "little") + b" " * (10**8), "a header of more than 16,000,000 bytes"),
        ((10**6).to_bytes(8, "little") + b"[" * 10**6, "its header is no JSON"),
        (b"\x80\x04" + b"." * 100, "no safetensors file"),  # a pickle
        (header_of(a=5), "a=5: it must be an object"),
        (header_of(a={"dtype": "F32", "shape": [2]}), "a.data_offsets is missing"),
        (
            header_of(a={"dtype": "F32", "shape": [10**12], "data_offsets": [0, 0]}),
            "a.shape=[1000000000000]: more than the file holds",
        ),
        (
            header_of(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
            "a.data_offsets=a list of 2: not within the file",
        ),
        (
            header_of(a={"dtype": "F32", "shape": "2", "data_offsets": [0, 0]}),
            "a.shape='2': it must be a list",
        ),
    ],
)
def test_a_file_that_holds_no_weights_of_a_bundle_is_one_line(
    sound: Path, tmp_path: Path, content: bytes, said: str
):
    folder = Path(shutil.copytree(sound, tmp_path / "bundle"))
    (folder / "model.safetensors").write_bytes(content)
    for read in (read_weights, lambda it: load_classifier(it, read_manifest(it))):
        with pytest.raises(ValueError) as refused:
            read(folder)
        told = str(refused.value)
        assert told.startswith(f"{folder}/model.safetensors: the weights do not load (")
        assert said in told and "\n" not in told


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("backbone.conv1.0.weight", lambda w: w[:, :, :1], "is F32 [6, 1, 1, 3] instead of [6, 1"),
        ("backbone.conv1.0.weight", lambda w: w.to(torch.int32), "is I32 [6, 1, 3, 3] instead of"),
        ("backbone.conv1.0.weight", lambda w: None, "conv1.0.weight is missing"),
        ("backbone.other", lambda _: torch.zeros(2), "backbone.other is of no layer"),
        ("backbone.conv1.0.weight", lambda w: w * torch.nan, "1 tensors are not finite: backbone"),
        ("backbone.conv1.0.weight", lambda w: w / 0, "1 tensors are not finite: backbone.conv1.0"),
    ],
)
def test_weights_that_are_not_those_of_the_manifest_are_refused_by_name(
    sound: Path, tmp_path: Path, name: str, change: Callable, said: str
):
    folder = Path(shutil.copytree(sound, tmp_path / "bundle"))
    weights = read_weights(folder)
    changed = change(weights.get(name))
    weights = {n: w for n, w in (weights | {name: changed}).items() if w is not None}
    contiguous = {n: w.contiguous() for n, w in weights.items()}
    safetensors.torch.save_file(contiguous, folder / "model.safetensors")
    with pytest.raises(ValueError) as refused:
        load_classifier(folder, read_manifest(folder))
    assert "the weights do not load (" in str(refused.value) and said in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": [1_000_000] * 4},
        {"layers": [1_000_000, 1, 1, 1]},
        {"stem_width": 1_000_000, "stem_type": "deep"},
        {"channels": [-1] * 4},
        {"channels": []},
        {"block": "Bottleneck"},
    ],
)
def test_a_manifest_cannot_ask_for_more_than_its_weights_hold(sound: Path, arguments: dict):
    model = replace(TINY, backbone_args=SMALL | arguments)
    manifest = replace(read_manifest(sound), model=model)
    began = time.perf_counter()
    with pytest.raises(ValueError) as refused:
        load_classifier(sound, manifest)
    assert time.perf_counter() - began < 20  # a million layers take minutes, their weights 6 GB
    assert str(sound) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("head", ["gem", "sed"])
def test_rows_of_species_that_both_know_are_carried_over_by_code(head: str):
    before = Classifier(replace(TINY, head=head), 3)
    after = Classifier(replace(TINY, head=head), 4)
    fresh = {name: each.clone() for name, each in after.state_dict().items()}
    taken = carry_over(after, before.state_dict(), own=["d", "c", "x", "a"], other=["a", "b", "c"])
    for layer in after.head.per_class:
        for name, other in before.head.get_submodule(layer).state_dict().items():
            own = after.head.get_submodule(layer).state_dict()[name]
            assert torch.equal(own[[1, 3]], other[[2, 0]])
            assert torch.equal(own[[0, 2]], fresh[f"head.{layer}.{name}"][[0, 2]])
    count = len(before.backbone.state_dict())
    assert str(taken) == (
        f"took {count} tensors of the backbone and the head's rows of 2 of 4 classes; 2 are new"
    )
    for name, each in before.backbone.state_dict().items():
        assert torch.equal(after.backbone.state_dict()[name], each)


def test_the_same_species_take_the_whole_head():
    before, after = Classifier(TINY, 2), Classifier(TINY, 2)
    taken = carry_over(after, before.state_dict(), own=["a", "b"], other=["a", "b"])
    assert str(taken).endswith("the backbone and the whole head, of 2 classes")
    for name, each in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], each)


def test_without_a_species_in_common_what_is_not_of_classes_is_taken():
    before, after = Classifier(TINY, 2), Classifier(TINY, 2)
    taken = carry_over(after, before.state_dict(), own=["a", "b"], other=["c", "d"])
    assert "0 of 2 classes; 2 are new" in str(taken)
    assert torch.equal(after.head.hidden.weight, before.head.hidden.weight)
    assert not torch.equal(after.head.classes.weight, before.head.classes.weight)


def test_a_head_of_another_kind_starts_anew():
    before, after = Classifier(replace(TINY, head="gem"), 2), Classifier(TINY, 2)
    fresh = after.head.classes.weight.clone()
    taken = carry_over(after, before.state_dict(), own=["a", "b"], other=["a", "b"])
    assert not taken.head and "starts anew" in str(taken)
    assert torch.equal(after.head.classes.weight, fresh)


def test_a_stage_before_with_another_backbone_is_refused():
    before = Classifier(replace(TINY, backbone_args={**SMALL, "stem_width": 16}), 2)
    with pytest.raises(ValueError, match="the stage before does not fit.*conv1.0.weight"):
        carry_over(Classifier(TINY, 2), before.state_dict(), own=["a"], other=["a"])
