"""Exported networks: they hear what torch hears, or are not written; and they need no torch."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from birdmix.app.cli import app
from birdmix.app.golden import keep_golden
from birdmix.bundle.golden import GOLDEN, Golden, read_golden, write_golden
from birdmix.bundle.manifest import Manifest, digest, read_manifest, write_manifest
from birdmix.bundle.weights import write_bundle
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.agreement import agreement
from birdmix.inference.engine import EXPORTED, Heard, open_engine
from birdmix.inference.export import export
from birdmix.inference.torch_engine import TorchEngine
from birdmix.labels import Labels
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings
from birdmix.ownership import LIST
from birdmix.windows import probability
from tests.conftest import ROOT

RATE = 8000
LOG_MEL = LogMelSettings(sample_rate=RATE, n_fft=512, hop_length=125, n_mels=32)
LABELS = Labels(("a", "b", "c", "d"), ("A", "B", "C", "D"))


def noises(count: int = 12) -> np.ndarray:
    """Windows of 1 s, each louder at another time and pitch."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * (300 * k + 200) * time) * (time > k / count) for k in range(count)]
    return (np.stack(tones) + rng.normal(0, 0.1, (count, RATE))).astype(np.float32)


def made(folder: Path, *, softmax: bool = False, **model: object) -> Path:
    """Write a bundle of a tiny network whose probabilities differ from window to window."""
    torch.manual_seed(0)
    tiny = {"channels": [8, 8, 8, 8], "stem_width": 8}
    settings = ModelSettings("resnet10t", tiny, **model)  # type: ignore[arg-type]
    classifier = Classifier(settings, len(LABELS), softmax=softmax).train()
    with torch.no_grad():
        for _ in range(20):  # batch norms learn what a mel is like
            classifier(LogMel(LOG_MEL)(torch.from_numpy(noises())))
        classifier.head.classes.weight.mul_(10)
    manifest = Manifest(LABELS, LOG_MEL, settings, 1.0, softmax)
    write_bundle(folder, manifest, classifier.state_dict())
    keep_golden(folder, noises())
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that hears frames, exported to both engines."""
    folder = made(tmp_path_factory.mktemp("exported") / "bundle", head="sed")
    for engine in EXPORTED:
        export(folder, engine)
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def on_cpu(bundle: Path) -> TorchEngine:
    """Open a bundle in torch on the CPU: a GPU rounds products to 10 bits (TF32)."""
    return TorchEngine(bundle, read_manifest(bundle), device="cpu")


def assert_heard_alike(bundle: Path, engine: str) -> None:
    theirs, ours = on_cpu(bundle), open_engine(bundle, engine)
    heard = theirs.judge(theirs.hear(noises())), ours.judge(ours.hear(noises()))
    assert np.ptp(probability(heard[0].clip), axis=0).max() > 0.05
    for a, b in zip(*heard, strict=True):
        assert (a is None) is (b is None)
        if a is not None:
            assert a.shape == b.shape and b.dtype == np.float32
            assert np.abs(probability(a) - probability(b)).max() < 1e-4


@pytest.mark.parametrize("engine", EXPORTED)
def test_an_exported_network_hears_what_torch_hears(exported: Path, engine: str):
    assert_heard_alike(exported, engine)


@pytest.mark.parametrize(
    ("softmax", "model"),
    [
        (True, {"head": "gem", "channels": "deltas", "parts": 2}),
        *(
            pytest.param(softmax, {"head": head, "channels": channels, "parts": parts}, marks=slow)
            for slow in [pytest.mark.slow]
            for softmax in (False, True)
            for head in ("average", "gem", "sed")
            for channels, parts in (("mono", 1), ("repeated", 3), ("deltas", 2))
        ),
    ],
)
def test_heads_channels_parts_and_softmax_survive_export(
    softmax: bool, model: dict, tmp_path: Path
):
    bundle = made(tmp_path / "bundle", softmax=softmax, **model)
    for engine in EXPORTED:
        if engine == "openvino" and os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41":
            continue  # it has no such convolutions without AVX2
        assert export(bundle, engine).difference < 1e-4
        assert_heard_alike(bundle, engine)


def test_any_number_of_windows_is_heard(exported: Path):
    for kind in EXPORTED:
        engine = open_engine(exported, kind)
        pictures = engine.hear(noises())
        together = engine.judge(pictures).clip
        alone = np.concatenate([engine.judge(each[None]).clip for each in pictures])
        np.testing.assert_allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("kind", EXPORTED)
def test_threads_hear_what_one_hears_after_the_other(exported: Path, kind: str):
    engine = open_engine(exported, kind)
    windows = np.split(noises(), 12) * 4
    expected = [engine.judge(engine.hear(each)) for each in windows]
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda each: engine.judge(engine.hear(each)), windows))
    for one, other in zip(expected, heard, strict=True):
        assert np.array_equal(one.clip, other.clip) and np.array_equal(one.frames, other.frames)


def test_an_export_that_differs_from_torch_is_not_written(copied: Path):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    golden = read_golden(copied)
    write_golden(copied, golden._replace(clip=golden.clip + np.float32(0.01)))
    before |= {name: (copied / name).read_bytes() for name in (GOLDEN, LIST)}
    with pytest.raises(ValueError, match=r"onnx f32 .* not written.*differ by up to .*e-03"):
        export(copied, "onnx")
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_golden_windows_that_are_no_numbers_are_neither_written_nor_read(
    copied: Path, monkeypatch: pytest.MonkeyPatch
):
    golden = read_golden(copied)
    broken = golden._replace(clip=np.where(golden.clip == golden.clip.max(), np.nan, golden.clip))
    write_golden(copied, broken)
    with pytest.raises(ValueError, match=r"golden.safetensors: damaged \(clip is not finite"):
        export(copied, "onnx")
    windows = np.full((1, noises().shape[1]), np.nan, np.float32)
    with pytest.raises(ValueError, match="log-mels, in 16 bits, of its golden windows are not"):
        keep_golden(copied, windows)
    assert np.isnan(load_file(copied / GOLDEN)["clip"]).any()  # as it was


@pytest.mark.slow
@pytest.mark.parametrize("engine", EXPORTED)
def test_eight_bits_keep_the_ranks(copied: Path, engine: str):
    made = export(copied, engine, "int8")
    assert made.rank_agreement >= 0.98 and made.difference > 1e-4
    assert open_engine(copied, engine).name == f"{engine} int8"


def test_an_engine_that_cannot_run_a_network_says_so_in_one_line(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = tmp_path / "bundle"
    shutil.copytree(exported, bundle)

    def refusing(*_: object) -> None:
        raise RuntimeError("Check failed\nno such pooling")

    monkeypatch.setattr("birdmix.inference.export.exported_engine", refusing)
    with pytest.raises(ValueError, match=r"openvino does not run resnet10t .*no such pooling"):
        export(bundle, "openvino")
    assert read_manifest(bundle) == read_manifest(exported)


def test_frames_that_differ_count_too(copied: Path):
    golden = read_golden(copied)
    assert golden.frames is not None
    frames = golden.frames.copy()
    frames[3, 1, 0] += 0.1
    write_golden(copied, golden._replace(frames=frames))
    with pytest.raises(ValueError, match="openvino f32 .* not written"):
        export(copied, "openvino")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pictures": lambda old: old.astype(np.float32)}, "pictures is F32"),
        ({"pictures": lambda old: old[:, :, :5]}, r"not F16 \[12, 1, 32, 65\]"),
        ({"pictures": lambda old: old[:0]}, r"pictures is F16 \[0, 1, 32, 65\]"),
        ({"clip": lambda old: old[:, :2]}, r"clip is F32 \[12, 2\], not F32 \[12, 4\]"),
        ({"clip": lambda old: old[:5]}, r"clip is F32 \[5, 4\], not F32 \[12, 4\]"),
        ({"clip": lambda old: old + np.float32(np.inf)}, "clip is not finite"),
        ({"frames": lambda old: old[0]}, "frames is F32"),
        ({"clip": lambda old: None}, "clip is missing"),
    ],
)
def test_golden_windows_of_another_kind_are_one_line(copied: Path, change: dict, said: str):
    golden = read_golden(copied)._asdict()
    for name, changed in change.items():
        golden[name] = changed(golden[name])
    write_golden(copied, Golden(**golden))
    with pytest.raises(ValueError, match=rf"golden.safetensors: damaged \(.*{said}.*--windows"):
        export(copied, "onnx")


def test_a_damaged_export_is_one_line_that_says_how_to_make_it_again(copied: Path):
    file = copied / read_manifest(copied).exports["onnx"].file
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    again = rf"birdmix export --bundle {copied} --engine onnx --precision f32"
    for content in (bytes(changed), whole[:-100], b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"damaged.*{again}"):
            open_engine(copied, "onnx")
    file.unlink()
    with pytest.raises(ValueError, match=rf"missing.*{again}"):
        open_engine(copied, "onnx")
    open_engine(copied, "openvino")  # whose file is its own


def test_auto_takes_an_export_where_there_is_no_gpu(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("birdmix.inference.engine._GPU", ())
    every = read_manifest(copied)
    assert all(made.milliseconds > 0 for made in every.exports.values())
    for fastest in EXPORTED:
        took = {
            kind: replace(made, milliseconds=1.0 if kind == fastest else 2.0)
            for kind, made in every.exports.items()
        }
        write_manifest(copied, replace(every, exports=took))
        assert open_engine(copied).name == f"{fastest} f32"
    first, other = EXPORTED
    unmeasured = {
        first: replace(every.exports[first], milliseconds=None),
        other: every.exports[other],
    }
    before = digest(copied, first)
    write_manifest(copied, replace(every, exports=unmeasured))
    assert digest(copied, first) == before  # what it took is no part of what it hears
    assert open_engine(copied).name == f"{other} f32"
    write_manifest(copied, replace(every, exports={first: unmeasured[first]}))
    assert open_engine(copied).name == f"{first} f32"
    write_manifest(copied, replace(every, exports={}))
    assert open_engine(copied).name.startswith("torch")
    with pytest.raises(ValueError, match=rf"birdmix export --bundle {copied} --engine onnx"):
        open_engine(copied, "onnx")
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        open_engine(copied, "openvin")


def put_network(bundle: Path, kind: str, data: bytes) -> None:
    """Put something else in an export's place, with the hash that is right for it."""
    manifest = read_manifest(bundle)
    made = replace(manifest.exports[kind], sha256=hashlib.sha256(data).hexdigest())
    (bundle / made.file).write_bytes(data)
    write_manifest(bundle, replace(manifest, exports={**manifest.exports, kind: made}))


def other_network(outputs: dict[str, list[int]], value: float = 0.0) -> bytes:
    """Return an ONNX network that answers every window by constants of some shapes."""
    nodes, told = [], []
    for name, shape in outputs.items():
        constant = onnx.numpy_helper.from_array(np.full(shape, value, np.float32))
        nodes.append(onnx.helper.make_node("Constant", [], [name], value=constant))
        told.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    mel = onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, [1, 1, 32, 65])
    nodes.append(onnx.helper.make_node("Identity", ["mel"], ["mel_again"]))
    told.append(onnx.helper.make_tensor_value_info("mel_again", onnx.TensorProto.FLOAT, None))
    graph = onnx.helper.make_graph(nodes, "other", [mel], told[:-1])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


FRAMES = {"frames": [1, 4, 3]}


@pytest.mark.parametrize("kind", EXPORTED)
@pytest.mark.parametrize(
    ("network", "said"),
    [
        (b"this is text", "does not run it"),
        (b"", "does not run it"),
        (bytes(10_000), "does not run it"),
        (b"<?xml version='1.0'?><net></net>", "does not run it"),
        (
            other_network({"clip": [1, 5], **FRAMES}),
            r"it gives \[1, 5\] for a window, not \[1, 4\]",
        ),
        (other_network({"clip": [1, 4]}), r"not \[1, 4\] and frames"),
        (other_network({"clip": [1, 4], "frames": [4, 3]}), r"it gives frames of \[4, 3\]"),
        (other_network({"clip": [1, 4], **FRAMES}, float("nan")), "not finite numbers"),
    ],
)
def test_a_network_that_is_none_of_this_bundle_is_one_line(
    copied: Path, kind: str, network: bytes, said: str, capfd: pytest.CaptureFixture[str]
):
    put_network(copied, kind, network)
    with pytest.raises(ValueError, match=said) as refused:
        open_engine(copied, kind)
    told = str(refused.value)
    assert told.startswith(f"{copied}/network-{kind}.onnx: ") and "\n" not in told
    assert f"birdmix export --bundle {copied} --engine {kind} --precision f32" in told
    assert not capfd.readouterr().err


def test_auto_goes_on_with_the_next_engine_and_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("birdmix.inference.engine._GPU", ())
    manifest = read_manifest(copied)
    took = {"onnx": 1.0, "openvino": 2.0}
    exports = {kind: replace(manifest.exports[kind], milliseconds=ms) for kind, ms in took.items()}
    write_manifest(copied, replace(manifest, exports=exports))
    put_network(copied, "onnx", b"text")
    with pytest.warns(UserWarning, match=r"onnxruntime does not run it .*; going on without eng"):
        assert open_engine(copied).name == "openvino f32"
    (copied / "network-openvino.onnx").write_bytes(b"other")
    with pytest.warns(UserWarning, match=r"damaged, or not .*; going on without engine=openvino"):
        assert open_engine(copied).name.startswith("torch")
    (copied / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match="the weights do not load"), pytest.warns(UserWarning):
        open_engine(copied)


def test_a_file_outside_of_the_bundle_is_never_opened(copied: Path, tmp_path: Path):
    outside = tmp_path / "outside.onnx"
    shutil.copyfile(copied / "network-onnx.onnx", outside)
    content = json.loads((copied / "bundle.json").read_text())
    for file in ("../outside.onnx", str(outside)):
        content["exports"]["onnx"]["file"] = file
        (copied / "bundle.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"exports.onnx.file=.*: it must be a plain file name"):
            open_engine(copied, "onnx")


def test_an_engine_that_is_not_installed_says_what_to_install(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    for library in EXPORTED.values():
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=r"onnxruntime is not installed; pip install .*export"):
        open_engine(exported, "onnx")
    assert open_engine(exported).name.startswith("torch")


def test_an_exported_network_hears_windows_of_one_length_and_torch_any(exported: Path):
    assert open_engine(exported, "onnx").num_samples == RATE
    assert open_engine(exported, "torch").num_samples is None


def test_a_bundle_from_before_exports_is_read(copied: Path):
    content = json.loads((copied / "bundle.json").read_text())
    del content["exports"]
    (copied / "bundle.json").write_text(json.dumps(content))
    assert read_manifest(copied).exports == {}


def test_a_digest_is_of_what_an_engine_hears_by(copied: Path):
    torch_, onnx = digest(copied), digest(copied, "onnx")
    manifest = read_manifest(copied)
    write_manifest(copied, replace(manifest, exports={"onnx": manifest.exports["onnx"]}))
    assert (digest(copied), digest(copied, "onnx")) == (torch_, onnx)
    write_manifest(copied, replace(manifest, exports={}))
    assert digest(copied) == torch_ and digest(copied, "onnx") != onnx
    (copied / "model.safetensors").write_bytes(b"other")
    assert digest(copied) != torch_


def test_agreement_is_of_probabilities_ranks_and_the_best_class():
    theirs = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 9.0], [3.0, -9.0]])
    ours = theirs.copy()
    ours[:2, 0] = [1.0, 0.0]  # two of four change places: Spearman's 1 - 6 * 2 / (4 * 15) = 0.8
    ours[0, 1] = 0.5  # no longer the best class, and still third of four
    near = agreement(Heard(ours), Heard(theirs))
    assert near.difference == pytest.approx(probability(np.array(5.0)) - probability(np.array(0.5)))
    assert near.rank == pytest.approx((0.8 + 1) / 2)
    assert near.top == 0.75
    assert near.lacks("f32") and near.lacks("int8")
    assert not agreement(Heard(theirs + 0.5), Heard(theirs)).lacks("bf16")


def test_a_run_keeps_golden_windows_of_what_is_held_out(bundle: Path):
    golden = read_golden(bundle)
    engine = on_cpu(bundle)
    assert len(golden.clip) > 8 and golden.pictures.dtype == np.float16
    heard = engine.judge(torch.from_numpy(golden.pictures).float())
    np.testing.assert_allclose(heard.clip, golden.clip, atol=1e-3)


def test_the_command_tells_what_was_checked(bundle: Path, tmp_path: Path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    (copy / GOLDEN).unlink()
    call = ["export", "--bundle", str(copy), "--engine", "openvino"]
    failed = CliRunner().invoke(app, call)
    assert failed.exit_code == 2 and "--windows FOLDER" in failed.stderr
    soundfile.write(tmp_path / "one.wav", np.random.default_rng(0).normal(0, 0.1, 9 * RATE), RATE)
    done = CliRunner().invoke(app, [*call, "--windows", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "over 1 golden windows" in done.stdout and "best class in 100%" in done.stdout
    assert "ms for a window in one thread" in done.stdout
    too_few = CliRunner().invoke(app, [*call, "--precision", "int8"])
    assert too_few.exit_code == 2 and "too few to rank" in too_few.stderr


UNLOADED = """
import gc, signal, subprocess, sys, threading
from pathlib import Path
from birdmix.inference.engine import open_engine

signal.signal(signal.SIGCHLD, lambda *_: None)
engines = [open_engine(Path(sys.argv[1]), "openvino")]
thread = threading.Thread(target=lambda: (engines.clear(), gc.collect()))
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)  # its end is a signal
"""


def test_a_signal_ends_nothing_after_an_engine_was_closed_in_another_thread(exported: Path):
    done = subprocess.run([sys.executable, "-c", UNLOADED, exported], cwd=ROOT, timeout=60)
    assert done.returncode == 0


def test_listening_with_an_export_needs_no_torch(exported: Path, tmp_path: Path):
    recordings = tmp_path / "in"
    recordings.mkdir()
    soundfile.write(recordings / "noise.wav", noises(3).ravel(), RATE)
    code = (
        "import sys\n"
        "for name in ('torch', 'torchaudio', 'torchvision', 'timm', 'lightning', 'librosa',\n"
        "             'hydra', 'omegaconf'):\n"
        "    sys.modules[name] = None  # importing it fails\n"
        "from birdmix.app.cli import app\n"
        "for engine in ('auto', 'onnx'):\n"
        "    try: app([*sys.argv[1:], engine, '--engine', engine])\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
    )
    call = ["predict", "--bundle", exported, recordings, "--scores", "csv", "--out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, call)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("heard 1 of 1 recordings") == 2
