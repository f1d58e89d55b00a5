"""The torch engine: bfloat16, threads and the choice of a GPU; here what runs without one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from birdmix.bundle.bundle_weights import load_classifier
from birdmix.bundle.golden_storage import GOLDEN_FILE, read_golden, write_golden
from birdmix.bundle.manifest import read_manifest
from birdmix.engines import torch_engine
from birdmix.engines.torch_engine import (
    TorchEngine,
    batch_size_by_memory,
    describe_bf16_disagreement,
)
from tests.test_export import noises, write_tiny_bundle

CPU = torch.device("cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", head="sed")


def open_bf16(bundle: Path) -> TorchEngine:
    return TorchEngine(bundle, read_manifest(bundle), "cpu", "bf16")


def test_a_backbone_in_bfloat16_computes_what_autocast_does_and_the_head_float32(bundle: Path):
    engine, classifier = open_bf16(bundle), load_classifier(bundle, read_manifest(bundle))
    mel = engine.preprocess(noises())
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            features = classifier.compute_features(mel)
        expected = classifier.head(features.float())
    actual = engine.infer(mel)
    assert engine.name == "torch cpu bf16" and features.dtype == torch.bfloat16
    np.testing.assert_allclose(actual.logits, expected.logits.numpy(), atol=1e-5)


def test_a_bundle_whose_golden_windows_bfloat16_ranks_alike_is_predicted_in_it(bundle: Path):
    manifest = read_manifest(bundle)
    assert describe_bf16_disagreement(bundle, manifest, CPU) == ""


def test_without_golden_windows_or_with_other_ranks_bfloat16_is_not_used(bundle: Path):
    golden, manifest = read_golden(bundle), read_manifest(bundle)
    write_golden(bundle, golden._replace(logits=golden.logits[::-1]))
    assert "windows are ranked differently" in describe_bf16_disagreement(bundle, manifest, CPU)
    write_golden(bundle, type(golden)(*(array[:7] for array in golden)))
    assert "fewer than 8 golden windows" in describe_bf16_disagreement(bundle, manifest, CPU)
    (bundle / GOLDEN_FILE).unlink()
    assert "no golden windows" in describe_bf16_disagreement(bundle, manifest, CPU)


def test_float32_instead_of_bfloat16_on_a_gpu_is_reported(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    reasons = iter(["they are ranked differently", ""])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch_engine, "describe_bf16_disagreement", lambda *_: next(reasons))
    choose = torch_engine._choose_precision
    arguments = bundle, read_manifest(bundle), torch.device("cuda")
    with pytest.warns(UserWarning, match="in float32, slower .*: they are ranked differently"):
        assert choose(*arguments) == "f32"
    assert choose(*arguments) == "bf16"


def test_threads_that_predict_at_a_time_get_the_logits_of_one(bundle: Path):
    engine = open_bf16(bundle)

    def logits(window: np.ndarray) -> np.ndarray:
        return engine.infer(engine.preprocess(window[None])).logits

    expected = [logits(window) for window in noises()]
    with ThreadPoolExecutor(4) as threads:
        assert np.array_equal(list(threads.map(logits, noises())), expected)


@pytest.mark.parametrize(
    ("bytes_per_window", "total_bytes", "expected"),
    [
        (50 << 20, 80 << 30, 64),  # 204 would fit; the host's memory is the limit
        (1 << 30, 80 << 30, 8),  # half of the memory, a fourth for each thread: 10
        (8 << 30, 8 << 30, 1),
        (0, 8 << 30, 64),
    ],
)
def test_the_batch_of_a_gpu_depends_on_its_memory(
    bytes_per_window: int, total_bytes: int, expected: int
):
    assert batch_size_by_memory(bytes_per_window, total_bytes) == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "cuda:0"),
        ({"LOCAL_RANK": "1"}, "cuda:1"),
        ({"LOCAL_RANK": "2"}, "cuda:0"),
        ({"SLURM_LOCALID": "1"}, "cuda:1"),
    ],
)
def test_processes_on_a_machine_take_its_gpus_in_turn(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert torch_engine._device_of_process() == expected


def test_too_little_memory_is_an_error_with_the_remedy(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    def allocate(mel: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")

    engine = open_bf16(bundle)
    monkeypatch.setattr(engine.classifier, "forward", allocate)
    with pytest.raises(ValueError, match="batches of 32 windows do not fit .*CUDA_VISIBLE_DEVICES"):
        engine.infer(engine.preprocess(noises()))
