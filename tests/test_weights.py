"""Initial weights: published by timm, from a file, or transferred from another classifier."""

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

from birdmix.bundle.bundle_weights import load_classifier, read_weights, write_bundle
from birdmix.bundle.manifest import Manifest, read_manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.labels import Labels
from birdmix.model import backbone, initial_weights
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings
from birdmix.model.weight_file import read_weight_file
from birdmix.model.weight_transfer import transfer_weights
from birdmix.training.checkpoint import LAST_CHECKPOINT, load_checkpoint, save_checkpoint

SMALL = {"channels": (8, 8, 8, 8), "stem_width": 8}
TINY = ModelSettings("resnet10t", dict(SMALL), head="sed")
PLAIN = ModelSettings("resnet10t", head="sed")


def rgb_network(**arguments: object) -> torch.nn.Module:
    """A network with three input channels, as trained on RGB images."""
    torch.manual_seed(7)
    return timm.create_model("resnet10t", num_classes=10, **{**SMALL, **arguments}).eval()


def save_weights(state: dict[str, Tensor], folder: Path, form: str) -> str:
    file = folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        safetensors.torch.save_file(state, file)
    else:
        wrapped = {f"module.{name}": each for name, each in state.items()}
        torch.save({"plain": state, "state_dict": {"state_dict": wrapped, "epoch": 3}}[form], file)
    return str(file)


def has_equal_features(model: Classifier, network: torch.nn.Module) -> bool:
    mel = torch.randn(2, 1, 32, 64)
    features = model.eval().backbone(mel.expand(-1, model.backbone.conv1[0].in_channels, -1, -1))
    return torch.allclose(features, network.forward_features(mel.expand(-1, 3, -1, -1)), atol=1e-4)


@pytest.mark.parametrize(
    ("form", "channels"),
    [("safetensors", "mono"), ("plain", "mono"), ("state_dict", "repeated")],
)
def test_weights_are_loaded_from_files_of_any_form(tmp_path: Path, form: str, channels: str):
    network = rgb_network()
    file = save_weights(network.state_dict(), tmp_path, form)
    assert has_equal_features(
        Classifier(replace(TINY, weights=file, channels=channels), 3), network
    )


def test_layer_names_of_the_authors_are_converted(tmp_path: Path):
    own = timm.create_model("test_convnext", num_classes=10).state_dict()
    authors_names = {"stem": "downsample_layers.0", "head.norm": "norm", "head.fc": "head"}
    state = {}
    for name, each in own.items():
        for timm_name, authors_name in authors_names.items():
            name = re.sub(f"^{re.escape(timm_name)}", authors_name, name)
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        name = name.replace(".blocks", "").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        state[name] = each
    file = save_weights(state, tmp_path, "plain")
    model = Classifier(ModelSettings("test_convnext", channels="repeated", weights=file), 3)
    for name, each in model.backbone.state_dict().items():
        assert torch.equal(each, own[name])


def test_the_weights_of_a_mono_backbone_fit_three_channels(tmp_path: Path):
    mono = Classifier(TINY, 3).eval()
    file = save_weights(mono.state_dict(), tmp_path, "safetensors")
    model = Classifier(replace(TINY, weights=file, channels="repeated"), 5).eval()
    mel = torch.randn(2, 1, 32, 64)
    torch.testing.assert_close(model.backbone(mel.expand(-1, 3, -1, -1)), mono.backbone(mel))


def test_published_weights_are_downloaded_only_with_pretrained(monkeypatch: pytest.MonkeyPatch):
    network = timm.create_model("resnet10t", num_classes=10).eval()
    downloaded = []

    def load_from_hub(hub_id: str, **_: object) -> dict[str, Tensor]:
        downloaded.append(hub_id)
        return network.state_dict()

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", load_from_hub)
    monkeypatch.setattr(initial_weights, "_check_hub", lambda *_: None)
    assert not has_equal_features(Classifier(PLAIN, 3), network) and not downloaded
    assert has_equal_features(Classifier(replace(PLAIN, pretrained=True), 3), network)
    assert downloaded == ["timm/resnet10t.c3_in1k"]


def test_without_a_network_the_error_names_the_file_and_the_settings(
    monkeypatch: pytest.MonkeyPatch,
):
    def urlopen(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(initial_weights.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(initial_weights, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(initial_weights.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match="no route") as refused:
        Classifier(replace(PLAIN, pretrained=True), 3)
    error = str(refused.value)
    assert "model.pretrained=true: the weights of resnet10t" in error and "\n" not in error
    assert "download model.safetensors from" in error and "timm/resnet10t.c3_in1k" in error
    assert "model.weights=FILE model.pretrained=false" in error


def test_pretrained_is_refused_for_a_backbone_without_published_weights():
    with pytest.raises(ValueError, match="no published weights of resnet50t.*did you mean"):
        Classifier(ModelSettings("resnet50t", pretrained=True), 3)


def error_message(settings: ModelSettings) -> str:
    with pytest.raises(ValueError) as refused:
        Classifier(settings, 3)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            SMALL,
            r"changes the shape of 76 tensors \(conv1.0.weight, .*\.\.\.\); published weights ",
        ),
        ({"layers": (1, 1, 1, 2)}, "for the plain resnet10t: model=timm model.backbone=resnet10t"),
        ({"act_layer": "rellu"}, "resnet10t does not accept them .*rellu"),
    ],
)
def test_arguments_that_do_not_fit_published_weights_are_refused_before_any_download(
    monkeypatch: pytest.MonkeyPatch, arguments: dict, message: str
):
    monkeypatch.setattr(initial_weights, "_check_hub", lambda *_: pytest.fail("network access"))
    error = error_message(ModelSettings("resnet10t", dict(arguments), pretrained=True))
    assert re.search(message, error) and "model.backbone_args={" in error


def test_published_weights_are_fitted_to_the_input_size(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(
        backbone, "create_pretrained_backbone", lambda create, _: calls.append(1) or create()
    )
    Classifier(ModelSettings("test_maxvit", {"img_size": [32, 64]}, pretrained=True), 3)
    assert calls


def test_weights_of_another_shape_are_refused_with_their_layers(tmp_path: Path):
    file = save_weights(rgb_network(stem_width=16).state_dict(), tmp_path, "plain")
    error = error_message(replace(TINY, weights=file))
    assert f"model.weights={file} does not fit model.backbone=resnet10t" in error
    assert "conv1.0.weight [12, 1, 3, 3] instead of [6, 1, 3, 3]" in error
    assert "of its tensors have another shape" in error and "model.backbone_args" in error


def test_weights_of_a_deeper_or_shallower_backbone_are_refused(tmp_path: Path):
    state = rgb_network().state_dict()
    more = {**state, "layer1.1.conv1.weight": torch.zeros(8, 8, 3, 3)}
    error = error_message(replace(TINY, weights=save_weights(more, tmp_path, "plain")))
    assert "1 belong to no layer of it (layer1.1.conv1.weight)" in error
    del state["layer1.0.conv1.weight"]
    error = error_message(replace(TINY, weights=save_weights(state, tmp_path, "plain")))
    assert "1 are missing (layer1.0.conv1.weight)" in error


def test_files_that_are_absent_damaged_or_could_run_code_are_refused(tmp_path: Path):
    assert "there is no such file" in error_message(
        replace(TINY, weights=str(tmp_path / "none.pth"))
    )
    for name in ("incomplete.safetensors", "incomplete.pth"):
        (tmp_path / name).write_bytes(b"PK\3\4 half of it")
        assert "damaged" in error_message(replace(TINY, weights=str(tmp_path / name)))
    torch.save({"state_dict": rgb_network().state_dict(), "by": Fraction(1)}, tmp_path / "a.pth")
    assert "could run code" in error_message(replace(TINY, weights=str(tmp_path / "a.pth")))
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    assert "holds other data than weights" in error_message(
        replace(TINY, weights=str(tmp_path / "b.pth"))
    )


@pytest.mark.parametrize("name", ["cached", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("form", ["safetensors", "plain"])
def test_the_format_of_a_file_is_detected_by_content_not_by_name(
    tmp_path: Path, name: str, form: str
):
    state = rgb_network().state_dict()
    file = Path(save_weights(state, tmp_path, form)).rename(tmp_path / name)
    assert read_weight_file(file).keys() == state.keys()


@pytest.mark.parametrize("prefix", ["model.", "model.backbone.", "module.", "backbone.", "a.b.c."])
def test_a_common_prefix_of_all_names_is_removed(tmp_path: Path, prefix: str):
    network = rgb_network()
    state = {prefix + name: each for name, each in network.state_dict().items()}
    file = save_weights(
        {**state, "head.weight": torch.zeros(3)} if prefix == "model.backbone." else state,
        tmp_path,
        "plain",
    )
    assert has_equal_features(Classifier(replace(TINY, weights=file), 3), network)


def test_a_folder_is_refused_and_the_file_in_it_is_named(tmp_path: Path):
    assert f"init_from={tmp_path}" in error_message(replace(TINY, weights=str(tmp_path)))
    (tmp_path / "model.safetensors").touch()
    error = error_message(replace(TINY, weights=str(tmp_path)))
    assert f"is a folder; use {tmp_path / 'model.safetensors'}" in error


def test_a_checkpoint_of_birdmix_is_refused_in_favour_of_init_from(tmp_path: Path):
    state = {"position": {}, "model": rgb_network().state_dict(), "average": None, "mix_stats": [1]}
    save_checkpoint(tmp_path, state)
    error = error_message(replace(TINY, weights=str(tmp_path / LAST_CHECKPOINT)))
    assert "is a checkpoint of birdmix; use init_from=RUN_DIR" in error


class _Bytes:
    """Pickles as a call for a byte array of 10 GB."""

    def __reduce__(self) -> tuple:
        return bytearray, (10**10,)


def write_zip_bomb(file: Path) -> None:
    """Write an archive in torch's format with 100 MB of zeros in 100 kB."""
    torch.save({"a": torch.zeros(25_000_000)}, file)
    with zipfile.ZipFile(file) as archive:
        records = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    assert file.stat().st_size < 1_000_000


def torch_writer(content: Callable[[], object], legacy: bool = False) -> Callable[[Path], None]:
    return lambda file: torch.save(content(), file, _use_new_zipfile_serialization=not legacy)


def many_views() -> dict[str, Tensor]:
    base = torch.zeros(100_000)
    return {str(k): base[k:] for k in range(1_000)}


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "zip bomb": (write_zip_bomb, "it is a compressed archive"),
    "expanded": (
        torch_writer(lambda: {"a": torch.zeros(1).expand(10**12)}),
        "its tensors need 4,000,0",
    ),
    "expanded, legacy": (
        torch_writer(lambda: {"a": torch.zeros(1).expand(10**6, 10**6)}, legacy=True),
        "its tensors need 4,000,000,000,000 bytes",
    ),
    "expanded, deep": (
        torch_writer(
            lambda: {"state_dict": {"epoch": 1, "b": [{"a": torch.zeros(1).expand(10**10)}]}}
        ),
        "its tensors need 40,000,000,000 bytes",
    ),
    "views": (torch_writer(many_views), "its tensors need"),
    "bytes": (torch_writer(lambda: {"a": _Bytes()}), "it holds byte arrays"),
    "bytes, legacy": (torch_writer(lambda: {"a": _Bytes()}, legacy=True), "it holds byte arrays"),
    "meta": (torch_writer(lambda: {"a": torch.empty(10**12, device="meta")}), "without values"),
    "sparse": (
        torch_writer(lambda: {"a": torch.eye(3).to_sparse()}),
        "it holds tensors that are sparse",
    ),
    "header": (
        lambda file: file.write_bytes((10**8).to_bytes(8, "little") + b"{" + b" " * (10**8)),
        "its header has more than 16,000,000 bytes",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_that_would_need_more_memory_than_their_size_are_refused(name: str, tmp_path: Path):
    write, reason = HOSTILE[name]
    file = tmp_path / "weights.pth"
    write(file)
    began = time.perf_counter()
    error = error_message(replace(TINY, weights=str(file)))
    assert reason in error and f"model.weights={file}: damaged (" in error
    file.rename(tmp_path / LAST_CHECKPOINT)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged or not a checkpoint \("):
        load_checkpoint(tmp_path)
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float):
    state = rgb_network().state_dict()
    state["conv1.0.weight"][0] = value
    error = error_message(replace(TINY, weights=save_weights(state, tmp_path, "plain")))
    assert "1 of its tensors are not finite (conv1.0.weight)" in error


def test_a_bundle_is_loaded_without_the_file_of_its_initial_weights(tmp_path: Path):
    file = save_weights(rgb_network().state_dict(), tmp_path, "safetensors")
    settings = replace(
        TINY, weights=file, num_chunks=2, channels="deltas", dropout=0.1, num_dropouts=2
    )
    model = Classifier(settings, 2).eval()
    manifest = Manifest(Labels(("a", "b")), LogMelSettings(), settings, 1.0)
    write_bundle(tmp_path / "bundle", manifest, model.state_dict())
    Path(file).unlink()
    mel = torch.randn(1, 1, 32, 64)
    loaded = load_classifier(tmp_path / "bundle", manifest)
    assert torch.equal(loaded(mel).logits, model(mel).logits)
    assert read_weights(tmp_path / "bundle").keys() == model.state_dict().keys()


@pytest.fixture(scope="module")
def valid_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two classes."""
    folder = tmp_path_factory.mktemp("valid") / "bundle"
    manifest = Manifest(Labels(("a", "b")), LogMelSettings(), TINY, 1.0)
    write_bundle(folder, manifest, Classifier(TINY, 2).state_dict())
    return folder


def header_of(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"\xff" * 100, "its header has more than 16,000,000 bytes"),
        (
            (10**8).to_bytes(8, "little") + b" " * (10**8),
            "its header has more than 16,000,000 bytes",
        ),
        ((10**6).to_bytes(8, "little") + b"[" * 10**6, "its header is not JSON"),
        (b"\x80\x04" + b"." * 100, "not a safetensors file"),  # a pickle
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
def test_a_weight_file_of_a_bundle_that_is_not_safetensors_is_a_one_line_error(
    valid_bundle: Path, tmp_path: Path, content: bytes, reason: str
):
    folder = Path(shutil.copytree(valid_bundle, tmp_path / "bundle"))
    (folder / "model.safetensors").write_bytes(content)
    for read in (read_weights, lambda path: load_classifier(path, read_manifest(path))):
        with pytest.raises(ValueError) as refused:
            read(folder)
        error = str(refused.value)
        assert error.startswith(f"{folder}/model.safetensors: the weights do not load (")
        assert reason in error and "\n" not in error


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("backbone.conv1.0.weight", lambda w: w[:, :, :1], "is F32 [6, 1, 1, 3] instead of [6, 1"),
        ("backbone.conv1.0.weight", lambda w: w.to(torch.int32), "is I32 [6, 1, 3, 3] instead of"),
        ("backbone.conv1.0.weight", lambda w: None, "conv1.0.weight is missing"),
        ("backbone.other", lambda _: torch.zeros(2), "backbone.other is not a tensor of"),
        ("backbone.conv1.0.weight", lambda w: w * torch.nan, "1 tensors are not finite: backbone"),
        ("backbone.conv1.0.weight", lambda w: w / 0, "1 tensors are not finite: backbone.conv1.0"),
    ],
)
def test_weights_that_do_not_fit_the_manifest_are_refused_by_name(
    valid_bundle: Path, tmp_path: Path, name: str, change: Callable, reason: str
):
    folder = Path(shutil.copytree(valid_bundle, tmp_path / "bundle"))
    weights = read_weights(folder)
    changed = change(weights.get(name))
    weights = {n: w for n, w in (weights | {name: changed}).items() if w is not None}
    contiguous = {n: w.contiguous() for n, w in weights.items()}
    safetensors.torch.save_file(contiguous, folder / "model.safetensors")
    with pytest.raises(ValueError) as refused:
        load_classifier(folder, read_manifest(folder))
    assert "the weights do not load (" in str(refused.value) and reason in str(refused.value)


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
def test_a_manifest_that_describes_a_larger_model_than_its_weights_is_refused(
    valid_bundle: Path, arguments: dict
):
    model = replace(TINY, backbone_args=SMALL | arguments)
    manifest = replace(read_manifest(valid_bundle), model=model)
    began = time.perf_counter()
    with pytest.raises(ValueError) as refused:
        load_classifier(valid_bundle, manifest)
    assert time.perf_counter() - began < 20  # a million layers take minutes, their weights 6 GB
    assert str(valid_bundle) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("head", ["gem", "sed"])
def test_rows_of_common_classes_are_transferred_by_code(head: str):
    source = Classifier(replace(TINY, head=head), 3)
    target = Classifier(replace(TINY, head=head), 4)
    fresh = {name: each.clone() for name, each in target.state_dict().items()}
    transferred = transfer_weights(
        target, source.state_dict(), codes=["d", "c", "x", "a"], source_codes=["a", "b", "c"]
    )
    for layer in target.head.class_layers:
        for name, other in source.head.get_submodule(layer).state_dict().items():
            own = target.head.get_submodule(layer).state_dict()[name]
            assert torch.equal(own[[1, 3]], other[[2, 0]])
            assert torch.equal(own[[0, 2]], fresh[f"head.{layer}.{name}"][[0, 2]])
    count = len(source.backbone.state_dict())
    assert str(transferred) == (
        f"loaded {count} tensors of the backbone and the head's weights of 2 of 4 classes; "
        "2 are new"
    )
    for name, each in source.backbone.state_dict().items():
        assert torch.equal(target.backbone.state_dict()[name], each)


def test_the_whole_head_is_transferred_for_the_same_classes():
    source, target = Classifier(TINY, 2), Classifier(TINY, 2)
    transferred = transfer_weights(
        target, source.state_dict(), codes=["a", "b"], source_codes=["a", "b"]
    )
    assert str(transferred).endswith("the backbone and the whole head, 2 classes")
    for name, each in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], each)


def test_without_common_classes_only_layers_without_classes_are_transferred():
    source, target = Classifier(TINY, 2), Classifier(TINY, 2)
    transferred = transfer_weights(
        target, source.state_dict(), codes=["a", "b"], source_codes=["c", "d"]
    )
    assert "0 of 2 classes; 2 are new" in str(transferred)
    assert torch.equal(target.head.hidden.weight, source.head.hidden.weight)
    assert not torch.equal(target.head.classes.weight, source.head.classes.weight)


def test_a_head_of_another_kind_is_not_transferred():
    source, target = Classifier(replace(TINY, head="gem"), 2), Classifier(TINY, 2)
    fresh = target.head.classes.weight.clone()
    transferred = transfer_weights(
        target, source.state_dict(), codes=["a", "b"], source_codes=["a", "b"]
    )
    assert not transferred.has_head and "starts from random weights" in str(transferred)
    assert torch.equal(target.head.classes.weight, fresh)


def test_transfer_from_another_backbone_is_refused():
    source = Classifier(replace(TINY, backbone_args={**SMALL, "stem_width": 16}), 2)
    with pytest.raises(ValueError, match="the initial classifier does not fit.*conv1.0.weight"):
        transfer_weights(Classifier(TINY, 2), source.state_dict(), codes=["a"], source_codes=["a"])
