"""Untrusted bundles: an invalid manifest is a one-line error, quickly and with little memory."""

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from birdmix.bundle.manifest import Manifest, read_manifest, write_manifest
from birdmix.frontend.settings import LogMelSettings
from birdmix.json_data import parse_dataclass
from birdmix.labels import Labels
from birdmix.model.settings import ModelSettings
from tests.conftest import ROOT, make_config

LOG_MEL = LogMelSettings(n_fft=1024, hop_length=500, n_mels=32)
EXPORT = {
    "file": "network-onnx.onnx",
    "sha256": "0" * 64,
    "precision": "f32",
    "num_windows": 12,
    "difference": 1e-6,
    "rank_agreement": 1.0,
    "top_agreement": 1.0,
    "versions": {"onnx": "1"},
    "milliseconds": 2.5,
}


def valid_content() -> dict[str, Any]:
    """Return the content of a valid ``bundle.json`` with three classes."""
    model = {"backbone": "resnet10t", "backbone_args": {"channels": [8, 8, 8, 8], "stem_width": 8}}
    return {
        "format": 3,
        "labels": {"codes": ["a", "b", "c"], "names": ["A", "B", "C"]},
        "segment_seconds": 5.0,
        "log_mel": {"n_fft": 1024, "hop_length": 500, "n_mels": 32},
        "model": model,
        "softmax": False,
        "thresholds": [0.5, None, 0.25],
        "metrics": {"train_loss": 0.1, "validation_macro_roc_auc": float("nan")},
        "versions": {"birdmix": "0.1.0", "torch": "2.11.0"},
        "exports": {"onnx": dict(EXPORT)},
    }


def write_content(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    return folder


def edit(key: str, value: Any) -> Callable[[], dict[str, Any]]:
    """Return a function that makes a manifest with another value of a key; ``...`` removes it."""

    def make() -> dict[str, Any]:
        content = copy.deepcopy(valid_content())
        *parents, last = key.split(".")
        parent = content
        for name in parents:
            parent = parent[name]
        if value is ...:
            del parent[last]
        else:
            parent[last] = value
        return content

    return make


NAN, INF = float("nan"), float("inf")
HUGE = 10**400

#: A dotted key, an invalid value, and part of the error message.
WRONG_VALUES: list[tuple[str, Any, str]] = [
    ("format", ..., "format is missing"),
    ("format", "3", "bundle format '3'"),
    ("format", [3], "bundle format a list of 1"),
    ("format", 10**100, "bundle format an integer of many digits"),
    ("labels", ..., "labels is missing"),
    ("labels", ["a"], "labels=a list of 1: it must be an object"),
    ("labels.codes", ..., "labels.codes is missing"),
    ("labels.codes", "abc", "labels.codes='abc': it must be a list"),
    ("labels.codes", {"a": 1}, "labels.codes=an object of 1 keys: it must be a list"),
    ("labels.codes", ["a", 7, "c"], "labels.codes[1]=7: it must be text"),
    ("labels.codes", ["a", None, "c"], "labels.codes[1]=null: it must be text"),
    ("labels.codes", ["a", ["b"], "c"], "labels.codes[1]=a list of 1: it must be text"),
    ("labels.codes", ["a", "b", "a"], "label codes are repeated: a"),
    ("labels.codes", ["a"] * 100_000, "label codes are repeated: a"),
    ("labels.codes", [str(k // 2) for k in range(100_000)], "label codes are repeated: 0, 1, 10"),
    ("labels.codes", [], "3 label names for 0 label codes"),
    ("labels", {"codes": [], "names": []}, "labels.codes: 0 classes"),
    ("labels.codes", ["a", "b", "c" * 10**6], "labels.codes[2]='ccc"),
    ("labels.codes", ["a", "b", "\ud800"], r"labels.codes[2]='\ud800': it must be valid Unicode"),
    ("labels.names", "ABC", "labels.names='ABC': it must be a list"),
    ("labels.names", ["A"], "1 label names for 3 label codes"),
    ("segment_seconds", ..., "segment_seconds is missing"),
    ("segment_seconds", INF, "segment_seconds=Infinity: it must be finite"),
    ("segment_seconds", NAN, "segment_seconds=NaN: it must be finite"),
    ("segment_seconds", HUGE, "segment_seconds=an integer of many digits: it must be finite"),
    ("segment_seconds", -5, "segment_seconds=-5: it must be finite, and at least 0.05 s"),
    ("segment_seconds", 0, "segment_seconds=0: it must be finite, and at least 0.05 s"),
    ("segment_seconds", 1e-9, "segment_seconds=1e-09: it must be finite, and at least 0.05 s"),
    ("segment_seconds", 1e9, "segment_seconds=1e+09: at 32000 Hz it must be at most 2097 s"),
    ("segment_seconds", "5", "segment_seconds='5': it must be a number"),
    ("segment_seconds", True, "segment_seconds=true: it must be a number"),
    ("log_mel", ..., "log_mel is missing"),
    ("log_mel", 5, "log_mel=5: it must be an object"),
    ("log_mel.n_ftt", 1024, "log_mel.n_ftt is an unknown key; did you mean 'n_fft'?"),
    ("log_mel.n_fft", 2**26, "log_mel.n_fft=67108864: it must be at most 65,536"),
    ("log_mel.n_fft", 1023, "log_mel.n_fft=1023: it must be even"),
    ("log_mel.n_fft", 1024.0, "log_mel.n_fft=1024.0: it must be a whole number"),
    ("log_mel.n_fft", HUGE, "log_mel.n_fft=an integer of many digits: it must be below 2 ** 63"),
    ("log_mel.n_mels", 1_000_000, "log_mel.n_mels=1000000: it must be at most 1,024"),
    ("log_mel.n_mels", 0, "log_mel.n_mels=0: it must be above 0"),
    ("log_mel.n_mels", True, "log_mel.n_mels=true: it must be a whole number"),
    ("log_mel.hop_length", -1, "log_mel.hop_length=-1: it must be above 0"),
    ("log_mel.hop_length", 1, "160,001 frames of n_fft=1024 and n_mels=32 need too much memory"),
    ("log_mel.sample_rate", 2_000_000_000, "log_mel.sample_rate=2000000000: it must be at most"),
    ("log_mel.sample_rate", 0, "log_mel.sample_rate=0: it must be above 0"),
    ("log_mel.sample_rate", "32000", "log_mel.sample_rate='32000': it must be a whole number"),
    ("log_mel.f_max", 1e9, "log_mel.f_min=50.0 and f_max=1000000000.0 must satisfy"),
    ("log_mel.f_min", NAN, "log_mel.f_min=NaN: it must be finite"),
    ("log_mel.f_min", -1, "log_mel.f_min=-1.0 and f_max=16000.0 must satisfy"),
    ("log_mel.top_db", INF, "log_mel.top_db=Infinity: it must be finite"),
    ("log_mel.offset", NAN, "log_mel.offset=NaN: it must be finite"),
    ("log_mel.scale", 1e300, "log_mel.scale=1e+300: it must be at most 1,000,000,000"),
    ("log_mel.power", 3, "log_mel.power=3.0: it is 1 (magnitudes) or 2 (power)"),
    ("log_mel.mel_scale", "slanej", "log_mel.mel_scale='slanej' is unknown"),
    ("log_mel.mel_norm", 1, "log_mel.mel_norm=1: it must be text"),
    ("log_mel.pad_mode", None, "log_mel.pad_mode=null: it must be text"),
    ("log_mel.pcen", [1], "log_mel.pcen=a list of 1: it must be an object"),
    ("log_mel.pcen", {"gian": 1}, "log_mel.pcen.gian is an unknown key; did you mean 'gain'?"),
    ("log_mel.pcen", {"eps": 1e-200}, "log_mel.pcen.eps=1e-200: it must be at least 1e-30"),
    ("log_mel.pcen", {"time_constant": 0}, "log_mel.pcen.time_constant=0.0: it must be above 0"),
    ("log_mel.pcen", {"time_constant": 1e300}, "log_mel.pcen.time_constant=1e+300: it must be at"),
    ("log_mel.pcen", {"power": 1e5}, "log_mel.pcen.power=100000.0: it must be at most 10"),
    ("model", [], "model=a list of 0: it must be an object"),
    ("model.backbone", 5, "model.backbone=5: it must be text"),
    ("model.backbone", "x" * 10**6, "model.backbone='xxx"),
    ("model.backbone_args", [], "model.backbone_args=a list of 0: it must be an object"),
    ("model.backbone_args", {"width": 1e12}, "model.backbone_args.width=1000000000000.0: it must"),
    ("model.backbone_args", {"a": [HUGE]}, "model.backbone_args.a[0]=an integer of many digits"),
    ("model.backbone_args", {"a": NAN}, "model.backbone_args.a=NaN: it must be at most 1,000,000"),
    ("model.backbone_args", {"a": [0] * 10**6}, "model.backbone_args: nested deeper"),
    ("model.backbone_args", {"a": [[[[[[[8]]]]]]]}, "model.backbone_args: nested deeper"),
    ("model.backbone_args", {"checkpoint_path": "/etc/passwd"}, "model.backbone_args.checkpoint_"),
    ("model.num_chunks", 1_000_000_000, "model.num_chunks=1000000000: it must be at most 64"),
    ("model.num_chunks", 0, "model.num_chunks=0: it must be at least 1"),
    ("model.num_dropouts", 10**9, "model.num_dropouts=1000000000: it must be at most 64"),
    ("model.dropout", NAN, "model.dropout=NaN: it must be finite"),
    ("model.dropout", 1, "model.dropout=1.0: it must be in [0, 1)"),
    ("model.head", "gme", "model.head='gme' is unknown; did you mean 'gem'?"),
    ("model.pretrained", "no", "model.pretrained='no': it must be true or false"),
    ("model.weights", 5, "model.weights=5: it must be text"),
    ("softmax", "false", "softmax='false': it must be true or false"),
    ("softmax", 0, "softmax=0: it must be true or false"),
    ("thresholds", ..., "thresholds is missing"),
    ("thresholds", 0.5, "thresholds=0.5: it must be a list"),
    ("thresholds", [0.5], "1 thresholds for 3 labels"),
    ("thresholds", [0.5, 2, 0.5], "thresholds: 2.0 is not a probability"),
    ("thresholds", [0.5, -0.1, 0.5], "thresholds: -0.1 is not a probability"),
    ("thresholds", [0.5, NAN, 0.5], "thresholds[1]=NaN: it must be finite"),
    ("thresholds", [0.5, "0.5", 0.5], "thresholds[1]='0.5': it must be a number"),
    ("metrics", [1], "metrics=a list of 1: it must be an object"),
    ("metrics", {"loss": "low"}, "metrics.loss='low': it must be a number"),
    ("versions", "0.1.0", "versions='0.1.0': it must be an object"),
    ("versions", {"torch": 2}, "versions.torch=2: it must be text"),
    ("exports", ["onnx"], "exports=a list of 1: it must be an object"),
    ("exports", {"onnx": "network.onnx"}, "exports.onnx='network.onnx': it must be an object"),
    ("exports.onnx.file", ..., "exports.onnx.file is missing"),
    ("exports.onnx.file", "../../../x.onnx", "exports.onnx.file='../../../x.onnx': it must be a p"),
    ("exports.onnx.file", "/etc/passwd", "exports.onnx.file='/etc/passwd': it must be a plain"),
    ("exports.onnx.file", "C:\\x.onnx", "it must be a plain file name, without a folder"),
    ("exports.onnx.file", "..", "exports.onnx.file='..': it must be a plain file name"),
    ("exports.onnx.file", "", "exports.onnx.file='': it must be a plain file name"),
    ("exports.onnx.file", "a\u0000.onnx", "it must be a plain file name, without a folder"),
    ("exports.onnx.file", "bundle.json", "exports.onnx.file='bundle.json': it must end in .onnx"),
    ("exports.onnx.file", ["n"], "exports.onnx.file=a list of 1: it must be text"),
    ("exports.onnx.sha256", "0", "exports.onnx.sha256='0': it must be 64 hexadecimal digits"),
    ("exports.onnx.precision", "f33", "exports.onnx.precision='f33' is unknown"),
    ("exports.onnx.num_windows", -1, "exports.onnx.num_windows=-1: it must be at least 1"),
    ("exports.onnx.difference", INF, "exports.onnx.difference=Infinity: it must be finite"),
    ("exports.onnx.milliseconds", -1, "exports.onnx.milliseconds=-1.0: it must be above 0"),
    ("exports.onnx.milliseconds", NAN, "exports.onnx.milliseconds=NaN: it must be finite"),
    ("exports.onnx.command", "rm", "exports.onnx.command is an unknown key"),
]

#: Texts that are not manifests, and part of the error message.
WRONG_TEXTS: dict[str, tuple[str, str]] = {
    "empty": ("", "not JSON"),
    "incomplete": (json.dumps(valid_content())[:200], "not JSON"),
    "list": ("[]", "content=a list of 0: it must be an object"),
    "null": ("null", "content=null: it must be an object"),
    "deep list": ("[" * 10**6, "nested too deeply"),
    "deep object": ('{"a":' * 10**6, "nested too deeply"),
    "deep value": ('{"format": 3, "labels": ' + "[" * 10**5 + "]" * 10**5 + "}", "nested too dee"),
    "many digits": ('{"format": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
    "large": (" " * 40_000_000, "larger than 32 MB"),
}

CASES = {
    **{
        f"{key}-{number}": (edit(key, value), message)
        for number, (key, value, message) in enumerate(WRONG_VALUES)
    },
    **{name: ((lambda text=text: text), message) for name, (text, message) in WRONG_TEXTS.items()},
}


def test_a_valid_manifest_is_read_as_it_was_written(tmp_path: Path):
    manifest = read_manifest(write_content(tmp_path, valid_content()))
    assert manifest.log_mel == LOG_MEL and manifest.thresholds == (0.5, None, 0.25)
    assert manifest.model.backbone_args == {"channels": [8, 8, 8, 8], "stem_width": 8}
    assert manifest.exports["onnx"].milliseconds == 2.5
    write_manifest(tmp_path, manifest)
    again = read_manifest(tmp_path)
    assert again.metrics.pop("validation_macro_roc_auc") != 0  # NaN equals nothing
    del manifest.metrics["validation_macro_roc_auc"]
    assert again == manifest


def test_settings_that_an_old_bundle_lacks_have_their_defaults(tmp_path: Path):
    content = valid_content()
    content["log_mel"] = content["model"] = {}
    content["exports"]["onnx"] = {k: v for k, v in EXPORT.items() if k != "milliseconds"}
    content["notes"] = "a key of the user's own"
    manifest = read_manifest(write_content(tmp_path, content))
    assert (manifest.log_mel, manifest.model) == (LogMelSettings(), ModelSettings())
    assert manifest.exports["onnx"].milliseconds is None


@pytest.mark.parametrize("name", CASES)
def test_an_invalid_manifest_is_a_one_line_error_with_file_key_and_value(name: str, tmp_path: Path):
    content, message = CASES[name]
    write_content(tmp_path, content())
    began = time.perf_counter()
    with pytest.raises(ValueError) as refused:
        read_manifest(tmp_path)
    error = str(refused.value)
    assert message in error and error.startswith(f"{tmp_path / 'bundle.json'}: ")
    assert "\n" not in error and len(error) < 1_000 + len(str(tmp_path))
    assert time.perf_counter() - began < 5  # at most 32 MB are parsed


def test_invalid_manifests_need_little_memory(tmp_path: Path):
    for number, (content, _) in enumerate(CASES.values()):
        (tmp_path / str(number)).mkdir()
        write_content(tmp_path / str(number), content())
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from birdmix.bundle.manifest import read_manifest\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for folder in Path(sys.argv[1]).iterdir():\n"
        "    try: read_manifest(folder)\n"
        "    except ValueError: continue\n"
        "    raise SystemExit(f'{folder} was read')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    pytest.importorskip("resource", reason="the memory of a process is known on Unix only")
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 400e6  # bytes; the text of 32 MB and what is parsed of it


def test_the_limits_apply_to_the_command_line_too():
    for override, message in (
        ("frontend.log_mel.n_fft=67108864", "frontend.log_mel.n_fft=67108864: it must be at most"),
        ("frontend.log_mel.n_mels=1000000", "n_mels=1000000: it must be at most 1,024"),
        ("frontend.log_mel.sample_rate=2000000000", "sample_rate=2000000000: it must be at most"),
        ("frontend.log_mel.top_db=inf", "top_db=inf: it must be at most 1,000"),
        ("frontend.log_mel.offset=nan", "offset=nan: it must be at most"),
        ("model.num_chunks=1000000000", "model.num_chunks=1000000000: it must be at most 64"),
        ("+model.backbone_args.depth=1e12", "model.backbone_args.depth=1000000000000.0: it must"),
        ("data.segment_seconds=inf", "data.segment_seconds=inf: it must be finite"),
        ("data.segment_seconds=1e6", "data.segment_seconds=1e+06: at 32000 Hz it must be at most"),
        ("data.segment_seconds=0.001", "data.segment_seconds=0.001: it must be finite, and at le"),
    ):
        with pytest.raises(ValueError) as refused:
            make_config(override, "run_dir=.")
        assert message in str(refused.value)


def test_integers_become_floats_in_fields_of_type_float():
    settings = parse_dataclass(LogMelSettings, {"f_min": 20, "f_max": 12_000})
    assert isinstance(settings.f_min, float) and settings == LogMelSettings(f_min=20, f_max=12_000)


def test_a_manifest_refuses_values_that_could_not_be_read_again():
    with pytest.raises(ValueError, match=r"thresholds: 2 is not a probability"):
        Manifest(Labels(("a",)), LOG_MEL, ModelSettings(), 5.0, thresholds=(2,))
