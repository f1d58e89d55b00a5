"""Kernels in Triton against the functions of torch that they replace.

Without a GPU they run in Triton's interpreter, in a process of its own, as the variable that
selects it is read once: ``TRITON_INTERPRET=1 pytest tests/test_mix_kernels.py``. The laws of the
other test files of mixing can be run in the same way.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from birdmix.mix import RULES, Boxes, CutMix, DrawContext, Examples, Inject, LabelRule, Mixup, Plan
from birdmix.mix import join_labels as join_labels_module
from birdmix.mix.apply_plan import _apply_by_slot, apply_resolved_plan
from birdmix.mix.join_labels import join_labels
from birdmix.mix.resolve_plan import AppliedPlan, resolve_plan
from birdmix.mix.tensor_access import can_use_kernels, copy_to_device, have_one_dense_layout
from tests.laws import INTERPRETS

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU and not INTERPRETS else "cpu")

pytest.importorskip("triton", reason="Triton is not installed")
runs_kernels = pytest.mark.skipif(
    not (INTERPRETS or HAS_GPU), reason="run by another test, in Triton's interpreter"
)
compiles = pytest.mark.skipif(INTERPRETS, reason="the interpreter replaces the compiler")
needs_gpu = pytest.mark.skipif(not HAS_GPU or INTERPRETS, reason="needs a GPU")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).to(DEVICE)


PLAN = Plan(
    np.array([[0, 1, 0], [1, 0, 2], [2, 2, 2]]),
    np.array([[1, 0.5, 0], [0.25, 0.5, 0.25], [1, 0, 0]], np.float32),
)
SHIFTED = replace(PLAN, shift=np.array([[0, 0.3, 0.9], [0, 0.5, 0.01], [0, 0, 0]]))
FROM_POOL = replace(PLAN, source=np.array([[0, 4, 0], [1, 3, 2], [2, 2, 2]]))
SHIFTED_FROM_POOL = replace(FROM_POOL, shift=SHIFTED.shift)
BOXES = Plan(
    np.array([[0, 1], [1, 2], [2, 0]]),
    np.array([[1, 1], [1, 1], [1, 0]], np.float32),
    Boxes(np.array([[0.2, 0.7], [0, 1], [0.1, 0.9]]), np.array([[0, 1.0], [0.25, 0.5], [0, 1]])),
)
SPANS = replace(BOXES, boxes=Boxes(BOXES.boxes.time, np.tile([0.0, 1.0], (3, 1))))


def mix_both(plan: Plan, x: Tensor, pool: Tensor | None = None, post: str = "none"):
    """Return what the kernels and what torch return for a plan."""
    applied = AppliedPlan.from_plan(plan, tuple(x.shape), x.device)
    assert can_use_kernels(x, pool, *applied)
    assert have_one_dense_layout(x, pool)
    mixed = apply_resolved_plan(plan, applied, x, pool, post)
    return mixed, _apply_by_slot(plan, applied, x, pool, post)


@runs_kernels
@pytest.mark.parametrize("name", ["PLAN", "SHIFTED_FROM_POOL", "SPANS"])
@pytest.mark.parametrize("num_cells", [7, 2048, 5000])
def test_waveforms_of_one_or_several_blocks_are_mixed_as_by_torch(name: str, num_cells: int):
    pool = normal(2, num_cells, seed=1)
    (mixed, _), (expected, _) = mix_both(globals()[name], normal(3, num_cells), pool)
    assert torch.allclose(mixed, expected, atol=1e-6)


@runs_kernels
@pytest.mark.parametrize("name", ["PLAN", "SHIFTED", "BOXES"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels last"])
def test_spectrograms_are_mixed_as_by_torch_in_any_order_of_axes(name: str, layout: str):
    x = normal(3, 2, 8, 10)
    if layout == "transposed":
        x = normal(3, 2, 10, 8).transpose(2, 3)
    elif layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    (mixed, _), (expected, _) = mix_both(globals()[name], x)
    assert mixed.stride() == x.stride()
    assert torch.allclose(mixed, expected, atol=1e-6)


@runs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_after_the_sum(dtype: torch.dtype):
    x = normal(3, 60, dtype=dtype)
    (mixed, _), _ = mix_both(PLAN, x)
    (exact, _), _ = mix_both(PLAN, x.float())
    # The interpreter cuts bfloat16 off instead of rounding it: one spacing instead of a half.
    assert mixed.dtype == dtype
    assert ((mixed.float() - exact).abs() <= torch.finfo(dtype).eps * exact.abs()).all()


@runs_kernels
@pytest.mark.parametrize("post", ["peak_guard", "peak_normalise", "standardise"])
@pytest.mark.parametrize("num_cells", [50, 5000])
def test_scalings_of_mixed_examples_are_those_of_torch(post: str, num_cells: int):
    x = 3 + normal(3, num_cells)
    (mixed, factor), (expected, expected_factor) = mix_both(PLAN, x, post=post)
    assert torch.allclose(mixed, expected, atol=1e-5)
    assert torch.allclose(factor, expected_factor, rtol=1e-5)
    assert torch.equal(mixed[2], x[2])  # not mixed, so not scaled


@runs_kernels
@pytest.mark.parametrize("post", ["peak_guard", "standardise"])
def test_a_nan_makes_the_whole_scaled_example_nan(post: str):
    x = normal(3, 5000)
    x[0, 3000] = float("nan")
    (mixed, factor), (expected, _) = mix_both(PLAN, x, post=post)
    assert mixed[0].isnan().all() and expected[0].isnan().all() and factor[0].isnan()
    assert mixed[2].isfinite().all()


@runs_kernels
@pytest.mark.parametrize("name", ["PLAN", "SHIFTED"])
def test_a_source_of_gain_0_is_not_read(name: str):
    x = normal(3, 40)
    x[2] = float("nan")
    (mixed, _), _ = mix_both(replace(globals()[name], gain=PLAN.gain * [1, 1, 0]), x)
    assert mixed[:2].isfinite().all()
    x[2], x[1, :20] = 0, float("nan")
    (mixed, _), _ = mix_both(
        replace(SPANS, boxes=Boxes(SPANS.boxes.time * 0 + [[0.5, 1]], SPANS.boxes.mel)), x
    )
    assert mixed[0].isfinite().all()  # the first half of example 1 lies outside its box


def examples(num_examples: int, num_frames: int) -> Examples:
    """Return labels of a batch and pool with a third of them unknown."""
    generator = np.random.default_rng(0)

    def uniform(*shape: int) -> Tensor:
        return torch.from_numpy(generator.random(shape, np.float32)).to(DEVICE)

    return Examples(
        normal(3, 40),
        uniform(num_examples, 6).round(decimals=1),
        uniform(num_examples),
        uniform(num_examples, 6) > 0.3,
        uniform(num_examples, 6, num_frames),
        frames_known=uniform(num_examples, 6, num_frames) > 0.3,
    )


@runs_kernels
@pytest.mark.parametrize(
    "rule",
    [
        *RULES.values(),
        LabelRule("full", "sum", label_cap=0.5),
        LabelRule("full", "noisy_or", label_sum=3.0),
        LabelRule("part", "max", known_tolerance=0.4),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["SHIFTED_FROM_POOL", "SPANS"])
def test_labels_are_joined_as_by_torch(rule: LabelRule, name: str, monkeypatch):
    sources = examples(5, 4)
    resolved = resolve_plan(globals()[name], sources, normal(2, 40), rule)
    joined = join_labels(rule, resolved, sources)
    monkeypatch.setattr(join_labels_module, "can_use_kernels", lambda *tensors: False)
    expected = join_labels(rule, resolved, sources)
    assert torch.allclose(joined.target, expected.target, atol=1e-6)
    assert torch.allclose(joined.weight, expected.weight, atol=1e-6)
    assert torch.allclose(joined.frames, expected.frames, atol=1e-6)
    assert torch.equal(joined.known, expected.known)
    assert torch.equal(joined.frames_known, expected.frames_known)


@runs_kernels
def test_a_batch_is_mixed_in_one_launch_for_inputs_and_one_for_labels(monkeypatch):
    from birdmix.mix import kernel_launches

    launches = []

    def counted(kernel):
        class Counted:
            def __getitem__(self, grid):
                launches.append(kernel.fn.__name__ if hasattr(kernel, "fn") else str(kernel))
                return kernel[grid]

        return Counted()

    for name in ("mix_inputs_kernel", "scale_kernel", "join_labels_kernel"):
        monkeypatch.setattr(kernel_launches, name, counted(getattr(kernel_launches, name)))
    batch = examples(3, 4)
    Mixup(1.0, 0.0).mix(batch._replace(frames=None, frames_known=None), rng=np.random.default_rng())
    assert launches == ["mix_inputs_kernel", "join_labels_kernel"]
    launches.clear()
    Mixup(1.0, 0.0, post="peak_guard").mix(batch, rng=np.random.default_rng())
    assert launches == ["mix_inputs_kernel", "scale_kernel", *["join_labels_kernel"] * 2]


@runs_kernels
def test_differentiated_inputs_are_mixed_by_torch():
    x = normal(3, 40).requires_grad_()
    assert not can_use_kernels(x)
    Mixup(1.0)(x, torch.eye(3, device=DEVICE), rng=np.random.default_rng(0)).x.sum().backward()
    assert x.grad.sum().item() == pytest.approx(x.numel() * 2.5, abs=x.numel() / 2)


@pytest.mark.skipif(INTERPRETS or HAS_GPU, reason="starts the tests above")
def test_the_kernels_agree_with_torch_in_tritons_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 40


POINTERS = {
    **dict.fromkeys(["x", "pool", "out", "gain", "block_statistics", "factor"], "*fp32"),
    **dict.fromkeys(["target", "weight", "share", "part", "out_target", "out_weight"], "*fp32"),
    **dict.fromkeys(["source", "offset", "box"], "*i64"),
    **dict.fromkeys(["known", "out_known"], "*u8"),
}
FLOATS = dict.fromkeys(["min_peak", "epsilon", "tolerance"], "fp32")
PLAIN = {"has_pool": True, "has_shift": False, "has_box": False, "statistic": "none"}
EVERYTHING = {"has_pool": True, "has_shift": True, "has_box": False, "statistic": "peak"}
LABELS = dict.fromkeys(["has_known", "has_weight", "has_factor", "has_shift"], True)


def compile_kernel(name: str, capability: int, **constants: object) -> str:
    """Return the assembly of a kernel, compiled for a GPU that need not be there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from birdmix.mix import kernels

    kernel = getattr(kernels, name)
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else (POINTERS | FLOATS).get(name, "i32")
        for name in names
    }
    # Lengths of 160,000 samples and memory of torch's allocator are multiples of 16.
    aligned = [name for name in names if name in POINTERS or name == "num_cells"]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]


def count(pattern: str, assembly: str) -> int:
    return len(re.findall(pattern, assembly))


@compiles
@pytest.mark.parametrize("capability", [75, 90])
def test_inputs_are_read_and_written_16_bytes_at_a_time(capability: int):
    assembly = compile_kernel(
        "mix_inputs_kernel", capability, **PLAIN, num_sources=3, block_size=2048
    )
    # Blocks of 2,048 cells, 128 threads, 4 cells a read: the example, and batch or pool twice.
    assert count(r"ld\.global\.v4\.b32", assembly) == 4 * (1 + 2 * 2)
    assert count(r"st\.global\.v4\.b32", assembly) == 4
    assert compile_kernel(
        "mix_inputs_kernel", capability, **EVERYTHING, num_sources=2, block_size=2048
    )


@compiles
@pytest.mark.parametrize("statistic", ["peak", "moments"])
def test_scaled_examples_are_read_and_written_16_bytes_at_a_time(statistic: str):
    sizes = {"num_sources": 2, "max_blocks": 128, "block_size": 2048}
    assembly = compile_kernel("scale_kernel", 80, statistic=statistic, **sizes)
    assert count(r"ld\.global\.v4\.b32", assembly) == count(r"st\.global\.v4\.b32", assembly) == 4


@compiles
@pytest.mark.parametrize("join", ["sum", "max", "noisy_or"])
def test_limits_and_maxima_of_labels_keep_nan(join: str):
    sizes = {"num_sources": 2, "block_size": 256, "num_frames": 1}
    assembly = compile_kernel("join_labels_kernel", 90, join=join, **LABELS, **sizes)
    assert count(r"(min|max)(\.NaN)?\.f32", assembly) == count(r"(min|max)\.NaN\.f32", assembly) > 0


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_a_transfer_works_in_function_transforms(transform):
    def mixed_sum(x: Tensor) -> Tensor:
        sent = [torch.arange(3), None, torch.ones(2, 2)]
        received = copy_to_device(sent, torch.device("meta"))
        assert [each if each is None else each.shape for each in received] == [(3,), None, (2, 2)]
        return x.sum()

    assert transform(mixed_sum)(torch.ones(3)).shape == (3,)


@needs_gpu
def test_a_transfer_does_not_overwrite_the_one_before():
    # The device is kept busy, so that all copies are queued before the first one is done.
    busy = torch.randn(4096, 4096, device="cuda")
    for _ in range(20):
        busy = (busy @ busy).clamp(-1, 1)
    sent = [torch.full((64, 3), float(number)) for number in range(200)]
    received = [copy_to_device([each, each + 0.5], DEVICE) for each in sent]
    for number, (first, second) in enumerate(received):
        assert first.eq(number).all() and second.eq(number + 0.5).all()


@needs_gpu
@pytest.mark.parametrize(
    "operator",
    [Mixup(1.0, 0.0), CutMix(1.0, axis="box"), Inject(1.0, gain=[0.3, 0.9])],
    ids=lambda operator: type(operator).__name__,
)
def test_a_mix_on_a_gpu_waits_for_nothing_and_equals_the_one_on_the_host(operator):
    x, pool = torch.randn(6, 1, 20, 30), torch.randn(4, 1, 20, 30)
    target, pool_target = torch.eye(6), torch.eye(6)[:4]
    on_host = operator(x, target, rng=np.random.default_rng(0), pool=Examples(pool, pool_target))
    given = [each.cuda() for each in (x, target, pool, pool_target)]
    context = DrawContext(6, {"pool": 4})
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed = operator(
            *given[:2], rng=np.random.default_rng(0), pool=Examples(*given[2:]), context=context
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(mixed.x.cpu(), on_host.x, atol=1e-5)
    assert torch.allclose(mixed.target.cpu(), on_host.target)
