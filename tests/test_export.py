"""Exported networks: equal to torch or not written, and run without torch."""

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

from birdmix.bundle.bundle_weights import write_bundle
from birdmix.bundle.golden_storage import GOLDEN_FILE, GoldenWindows, read_golden, write_golden
from birdmix.bundle.manifest import Manifest, bundle_digest, read_manifest, write_manifest
from birdmix.cli.main import app
from birdmix.engines.agreement import measure_agreement
from birdmix.engines.engine_interface import EngineOutput
from birdmix.engines.onnx_export import export_network
from birdmix.engines.registry import EXPORTED_ENGINES, open_engine
from birdmix.engines.torch_engine import TorchEngine
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.inference.make_golden_windows import create_golden_file
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


def write_tiny_bundle(folder: Path, *, softmax: bool = False, **model: object) -> Path:
    """Write a bundle of a tiny network whose probabilities differ from window to window."""
    torch.manual_seed(0)
    tiny = {"channels": [8, 8, 8, 8], "stem_width": 8}
    settings = ModelSettings("resnet10t", tiny, **model)  # type: ignore[arg-type]
    classifier = Classifier(settings, len(LABELS), softmax=softmax).train()
    with torch.no_grad():
        for _ in range(20):  # calibrates the batch norms on log-mels
            classifier(LogMel(LOG_MEL)(torch.from_numpy(noises())))
        classifier.head.classes.weight.mul_(10)
    manifest = Manifest(LABELS, LOG_MEL, settings, 1.0, softmax)
    write_bundle(folder, manifest, classifier.state_dict())
    create_golden_file(folder, noises())
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with frame logits, exported to both engines."""
    folder = write_tiny_bundle(tmp_path_factory.mktemp("exported") / "bundle", head="sed")
    for engine in EXPORTED_ENGINES:
        export_network(folder, engine)
    return folder


@pytest.fixture
def bundle_copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copied"))


def open_on_cpu(bundle: Path) -> TorchEngine:
    """Open a bundle in torch on the CPU: a GPU rounds products to 10 bits (TF32)."""
    return TorchEngine(bundle, read_manifest(bundle), device="cpu")


def assert_equal_outputs(bundle: Path, engine: str) -> None:
    theirs, ours = open_on_cpu(bundle), open_engine(bundle, engine)
    outputs = theirs.infer(theirs.preprocess(noises())), ours.infer(ours.preprocess(noises()))
    assert np.ptp(probability(outputs[0].logits), axis=0).max() > 0.05
    for a, b in zip(*outputs, strict=True):
        assert (a is None) is (b is None)
        if a is not None:
            assert a.shape == b.shape and b.dtype == np.float32
            assert np.abs(probability(a) - probability(b)).max() < 1e-4


@pytest.mark.parametrize("engine", EXPORTED_ENGINES)
def test_an_exported_network_equals_torch(exported: Path, engine: str):
    assert_equal_outputs(exported, engine)


@pytest.mark.parametrize(
    ("softmax", "model"),
    [
        (True, {"head": "gem", "channels": "deltas", "num_chunks": 2}),
        *(
            pytest.param(
                softmax, {"head": head, "channels": channels, "num_chunks": num_chunks}, marks=slow
            )
            for slow in [pytest.mark.slow]
            for softmax in (False, True)
            for head in ("average", "gem", "sed")
            for channels, num_chunks in (("mono", 1), ("repeated", 3), ("deltas", 2))
        ),
    ],
)
def test_heads_channels_chunks_and_softmax_survive_export(
    softmax: bool, model: dict, tmp_path: Path
):
    bundle = write_tiny_bundle(tmp_path / "bundle", softmax=softmax, **model)
    for engine in EXPORTED_ENGINES:
        if engine == "openvino" and os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41":
            continue  # it does not support such convolutions without AVX2
        assert export_network(bundle, engine).difference < 1e-4
        assert_equal_outputs(bundle, engine)


def test_logits_do_not_depend_on_the_batch_size(exported: Path):
    for kind in EXPORTED_ENGINES:
        engine = open_engine(exported, kind)
        inputs = engine.preprocess(noises())
        together = engine.infer(inputs).logits
        alone = np.concatenate([engine.infer(each[None]).logits for each in inputs])
        np.testing.assert_allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("kind", EXPORTED_ENGINES)
def test_several_threads_get_the_logits_of_one(exported: Path, kind: str):
    engine = open_engine(exported, kind)
    windows = np.split(noises(), 12) * 4
    expected = [engine.infer(engine.preprocess(each)) for each in windows]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda each: engine.infer(engine.preprocess(each)), windows))
    for one, other in zip(expected, outputs, strict=True):
        assert np.array_equal(one.logits, other.logits)
        assert np.array_equal(one.frame_logits, other.frame_logits)


def test_an_export_that_differs_from_torch_is_not_written(bundle_copy: Path):
    before = {path.name: path.read_bytes() for path in bundle_copy.iterdir()}
    golden = read_golden(bundle_copy)
    write_golden(bundle_copy, golden._replace(logits=golden.logits + np.float32(0.01)))
    before |= {name: (bundle_copy / name).read_bytes() for name in (GOLDEN_FILE, LIST)}
    with pytest.raises(ValueError, match=r"onnx f32 .* not written.*differ by up to .*e-03"):
        export_network(bundle_copy, "onnx")
    assert {path.name: path.read_bytes() for path in bundle_copy.iterdir()} == before


def test_golden_windows_that_are_not_finite_are_refused(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
):
    golden = read_golden(bundle_copy)
    broken = golden._replace(
        logits=np.where(golden.logits == golden.logits.max(), np.nan, golden.logits)
    )
    write_golden(bundle_copy, broken)
    with pytest.raises(ValueError, match=r"golden.safetensors: damaged \(logits is not finite"):
        export_network(bundle_copy, "onnx")
    windows = np.full((1, noises().shape[1]), np.nan, np.float32)
    with pytest.raises(ValueError, match="log-mels, in 16 bits, of its golden windows are not"):
        create_golden_file(bundle_copy, windows)
    assert np.isnan(load_file(bundle_copy / GOLDEN_FILE)["logits"]).any()  # unchanged


@pytest.mark.slow
@pytest.mark.parametrize("engine", EXPORTED_ENGINES)
def test_eight_bits_keep_the_ranks(bundle_copy: Path, engine: str):
    made = export_network(bundle_copy, engine, "int8")
    assert made.rank_agreement >= 0.98 and made.difference > 1e-4
    assert open_engine(bundle_copy, engine).name == f"{engine} int8"


def test_a_network_that_an_engine_cannot_run_is_refused_in_one_line(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = tmp_path / "bundle"
    shutil.copytree(exported, bundle)

    def refuse(*_: object) -> None:
        raise RuntimeError("Check failed\nno such pooling")

    monkeypatch.setattr("birdmix.engines.onnx_export.open_exported_engine", refuse)
    with pytest.raises(ValueError, match=r"openvino cannot run resnet10t .*no such pooling"):
        export_network(bundle, "openvino")
    assert read_manifest(bundle) == read_manifest(exported)


def test_frame_logits_are_compared_too(bundle_copy: Path):
    golden = read_golden(bundle_copy)
    assert golden.frame_logits is not None
    frames = golden.frame_logits.copy()
    frames[3, 1, 0] += 0.1
    write_golden(bundle_copy, golden._replace(frame_logits=frames))
    with pytest.raises(ValueError, match="openvino f32 .* not written"):
        export_network(bundle_copy, "openvino")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": lambda old: old.astype(np.float32)}, "inputs is F32"),
        ({"inputs": lambda old: old[:, :, :5]}, r"not F16 \[12, 1, 32, 65\]"),
        ({"inputs": lambda old: old[:0]}, r"inputs is F16 \[0, 1, 32, 65\]"),
        ({"logits": lambda old: old[:, :2]}, r"logits is F32 \[12, 2\], not F32 \[12, 4\]"),
        ({"logits": lambda old: old[:5]}, r"logits is F32 \[5, 4\], not F32 \[12, 4\]"),
        ({"logits": lambda old: old + np.float32(np.inf)}, "logits is not finite"),
        ({"frame_logits": lambda old: old[0]}, "frame_logits is F32"),
        ({"logits": lambda old: None}, "logits is missing"),
    ],
)
def test_golden_windows_of_another_kind_are_refused_in_one_line(
    bundle_copy: Path, change: dict, message: str
):
    golden = read_golden(bundle_copy)._asdict()
    for name, changed in change.items():
        golden[name] = changed(golden[name])
    write_golden(bundle_copy, GoldenWindows(**golden))
    with pytest.raises(ValueError, match=rf"golden.safetensors: damaged \(.*{message}.*--windows"):
        export_network(bundle_copy, "onnx")


def test_a_damaged_export_is_refused_with_the_command_that_makes_it_again(bundle_copy: Path):
    file = bundle_copy / read_manifest(bundle_copy).exports["onnx"].file
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    again = rf"birdmix export --bundle {bundle_copy} --engine onnx --precision f32"
    for content in (bytes(changed), whole[:-100], b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"damaged.*{again}"):
            open_engine(bundle_copy, "onnx")
    file.unlink()
    with pytest.raises(ValueError, match=rf"missing.*{again}"):
        open_engine(bundle_copy, "onnx")
    open_engine(bundle_copy, "openvino")  # it has a file of its own


def test_auto_uses_the_fastest_export_without_a_gpu(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("birdmix.engines.registry._GPU_FILES", ())
    every = read_manifest(bundle_copy)
    assert all(made.milliseconds > 0 for made in every.exports.values())
    for fastest in EXPORTED_ENGINES:
        took = {
            kind: replace(made, milliseconds=1.0 if kind == fastest else 2.0)
            for kind, made in every.exports.items()
        }
        write_manifest(bundle_copy, replace(every, exports=took))
        assert open_engine(bundle_copy).name == f"{fastest} f32"
    first, other = EXPORTED_ENGINES
    unmeasured = {
        first: replace(every.exports[first], milliseconds=None),
        other: every.exports[other],
    }
    before = bundle_digest(bundle_copy, first)
    write_manifest(bundle_copy, replace(every, exports=unmeasured))
    assert bundle_digest(bundle_copy, first) == before  # measured times are not part of it
    assert open_engine(bundle_copy).name == f"{other} f32"
    write_manifest(bundle_copy, replace(every, exports={first: unmeasured[first]}))
    assert open_engine(bundle_copy).name == f"{first} f32"
    write_manifest(bundle_copy, replace(every, exports={}))
    assert open_engine(bundle_copy).name.startswith("torch")
    with pytest.raises(ValueError, match=rf"birdmix export --bundle {bundle_copy} --engine onnx"):
        open_engine(bundle_copy, "onnx")
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        open_engine(bundle_copy, "openvin")


def replace_network(bundle: Path, kind: str, data: bytes) -> None:
    """Replace the file of an export, and its hash in the manifest."""
    manifest = read_manifest(bundle)
    made = replace(manifest.exports[kind], sha256=hashlib.sha256(data).hexdigest())
    (bundle / made.file).write_bytes(data)
    write_manifest(bundle, replace(manifest, exports={**manifest.exports, kind: made}))


def other_network(outputs: dict[str, list[int]], value: float = 0.0) -> bytes:
    """Return an ONNX network whose outputs are constants of some shapes."""
    nodes, values = [], []
    for name, shape in outputs.items():
        constant = onnx.numpy_helper.from_array(np.full(shape, value, np.float32))
        nodes.append(onnx.helper.make_node("Constant", [], [name], value=constant))
        values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    mel = onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, [1, 1, 32, 65])
    nodes.append(onnx.helper.make_node("Identity", ["mel"], ["mel_again"]))
    values.append(onnx.helper.make_tensor_value_info("mel_again", onnx.TensorProto.FLOAT, None))
    graph = onnx.helper.make_graph(nodes, "other", [mel], values[:-1])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


FRAMES = {"frame_logits": [1, 4, 3]}


@pytest.mark.parametrize("kind", EXPORTED_ENGINES)
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (b"this is text", "cannot run it"),
        (b"", "cannot run it"),
        (bytes(10_000), "cannot run it"),
        (b"<?xml version='1.0'?><net></net>", "cannot run it"),
        (
            other_network({"logits": [1, 5], **FRAMES}),
            r"its logits of a window are \[1, 5\]; expected \[1, 4\]",
        ),
        (other_network({"logits": [1, 4]}), r"expected \[1, 4\], with frame logits"),
        (
            other_network({"logits": [1, 4], "frame_logits": [4, 3]}),
            r"its frame logits are \[4, 3\]",
        ),
        (other_network({"logits": [1, 4], **FRAMES}, float("nan")), "not finite numbers"),
    ],
)
def test_a_network_of_another_bundle_is_refused_in_one_line(
    bundle_copy: Path, kind: str, network: bytes, message: str, capfd: pytest.CaptureFixture[str]
):
    replace_network(bundle_copy, kind, network)
    with pytest.raises(ValueError, match=message) as refused:
        open_engine(bundle_copy, kind)
    error = str(refused.value)
    assert error.startswith(f"{bundle_copy}/network-{kind}.onnx: ") and "\n" not in error
    assert f"birdmix export --bundle {bundle_copy} --engine {kind} --precision f32" in error
    assert not capfd.readouterr().err


def test_auto_continues_with_the_next_engine_and_warns(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("birdmix.engines.registry._GPU_FILES", ())
    manifest = read_manifest(bundle_copy)
    took = {"onnx": 1.0, "openvino": 2.0}
    exports = {kind: replace(manifest.exports[kind], milliseconds=ms) for kind, ms in took.items()}
    write_manifest(bundle_copy, replace(manifest, exports=exports))
    replace_network(bundle_copy, "onnx", b"text")
    with pytest.warns(UserWarning, match=r"onnxruntime cannot run it .*; continuing without eng"):
        assert open_engine(bundle_copy).name == "openvino f32"
    (bundle_copy / "network-openvino.onnx").write_bytes(b"other")
    with pytest.warns(UserWarning, match=r"damaged, or not .*; continuing without engine=openvino"):
        assert open_engine(bundle_copy).name.startswith("torch")
    (bundle_copy / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match="the weights do not load"), pytest.warns(UserWarning):
        open_engine(bundle_copy)


def test_a_file_outside_of_the_bundle_is_never_opened(bundle_copy: Path, tmp_path: Path):
    outside = tmp_path / "outside.onnx"
    shutil.copyfile(bundle_copy / "network-onnx.onnx", outside)
    content = json.loads((bundle_copy / "bundle.json").read_text())
    for file in ("../outside.onnx", str(outside)):
        content["exports"]["onnx"]["file"] = file
        (bundle_copy / "bundle.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"exports.onnx.file=.*: it must be a plain file name"):
            open_engine(bundle_copy, "onnx")


def test_an_engine_that_is_not_installed_is_refused_with_the_remedy(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    for kind in EXPORTED_ENGINES.values():
        monkeypatch.setitem(sys.modules, kind.library, None)
    with pytest.raises(ValueError, match=r"onnxruntime is not installed; pip install .*export"):
        open_engine(exported, "onnx")
    assert open_engine(exported).name.startswith("torch")


def test_an_exported_network_takes_windows_of_one_length_and_torch_any(exported: Path):
    assert open_engine(exported, "onnx").num_samples == RATE
    assert open_engine(exported, "torch").num_samples is None


def test_a_bundle_without_exports_is_read(bundle_copy: Path):
    content = json.loads((bundle_copy / "bundle.json").read_text())
    del content["exports"]
    (bundle_copy / "bundle.json").write_text(json.dumps(content))
    assert read_manifest(bundle_copy).exports == {}


def test_a_digest_depends_on_what_its_engine_uses(bundle_copy: Path):
    torch_, onnx = bundle_digest(bundle_copy), bundle_digest(bundle_copy, "onnx")
    manifest = read_manifest(bundle_copy)
    write_manifest(bundle_copy, replace(manifest, exports={"onnx": manifest.exports["onnx"]}))
    assert (bundle_digest(bundle_copy), bundle_digest(bundle_copy, "onnx")) == (torch_, onnx)
    write_manifest(bundle_copy, replace(manifest, exports={}))
    assert bundle_digest(bundle_copy) == torch_ and bundle_digest(bundle_copy, "onnx") != onnx
    (bundle_copy / "model.safetensors").write_bytes(b"other")
    assert bundle_digest(bundle_copy) != torch_


def test_agreement_measures_probabilities_ranks_and_the_best_class():
    theirs = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 9.0], [3.0, -9.0]])
    ours = theirs.copy()
    ours[:2, 0] = [1.0, 0.0]  # two of four swap ranks: Spearman's 1 - 6 * 2 / (4 * 15) = 0.8
    ours[0, 1] = 0.5  # no longer the best class, and still third of four
    near = measure_agreement(EngineOutput(ours), EngineOutput(theirs))
    assert near.difference == pytest.approx(probability(np.array(5.0)) - probability(np.array(0.5)))
    assert near.rank == pytest.approx((0.8 + 1) / 2)
    assert near.top == 0.75
    assert near.describe_exceeded_limit("f32") and near.describe_exceeded_limit("int8")
    assert not measure_agreement(
        EngineOutput(theirs + 0.5), EngineOutput(theirs)
    ).describe_exceeded_limit("bf16")


def test_a_run_writes_golden_windows_of_held_out_data(bundle: Path):
    golden = read_golden(bundle)
    engine = open_on_cpu(bundle)
    assert len(golden.logits) > 8 and golden.inputs.dtype == np.float16
    outputs = engine.infer(torch.from_numpy(golden.inputs).float())
    np.testing.assert_allclose(outputs.logits, golden.logits, atol=1e-3)


def test_the_command_reports_the_agreement(bundle: Path, tmp_path: Path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    (copy / GOLDEN_FILE).unlink()
    call = ["export", "--bundle", str(copy), "--engine", "openvino"]
    failed = CliRunner().invoke(app, call)
    assert failed.exit_code == 2 and "--windows FOLDER" in failed.stderr
    soundfile.write(tmp_path / "one.wav", np.random.default_rng(0).normal(0, 0.1, 9 * RATE), RATE)
    done = CliRunner().invoke(app, [*call, "--windows", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "on 1 golden window:" in done.stdout and "top class in 100%" in done.stdout
    assert "ms per window on one thread" in done.stdout
    too_few = CliRunner().invoke(app, [*call, "--precision", "int8"])
    assert too_few.exit_code == 2 and "too few to rank" in too_few.stderr


UNLOADED = """
import gc, signal, subprocess, sys, threading
from pathlib import Path
from birdmix.engines.registry import open_engine

signal.signal(signal.SIGCHLD, lambda *_: None)
engines = [open_engine(Path(sys.argv[1]), "openvino")]
thread = threading.Thread(target=lambda: (engines.clear(), gc.collect()))
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", ""], check=True)  # its end raises a signal
"""


def test_a_signal_does_not_end_the_process_after_an_engine_was_closed_in_another_thread(
    exported: Path,
):
    done = subprocess.run([sys.executable, "-c", UNLOADED, exported], cwd=ROOT, timeout=60)
    assert done.returncode == 0


def test_prediction_with_an_export_needs_no_torch(exported: Path, tmp_path: Path):
    recordings = tmp_path / "in"
    recordings.mkdir()
    soundfile.write(recordings / "noise.wav", noises(3).ravel(), RATE)
    code = (
        "import sys\n"
        "for name in ('torch', 'torchaudio', 'torchvision', 'timm', 'lightning', 'librosa',\n"
        "             'hydra', 'omegaconf'):\n"
        "    sys.modules[name] = None  # importing it fails\n"
        "from birdmix.cli.main import app\n"
        "for engine in ('auto', 'onnx'):\n"
        "    try: app([*sys.argv[1:], engine, '--engine', engine])\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
    )
    call = ["predict", "--bundle", exported, recordings, "--probabilities", "csv", "--out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, call)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 of 1 recordings predicted") == 2
