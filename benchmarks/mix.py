"""Time mix operators against torch.add and other implementations, on a CPU and on a GPU.

    python benchmarks/mix.py [--rounds 40] [--batch 64] [--samples 160000] [--gpu-only]

The time of whole operator calls is measured: draw, resolve, apply and join, with a new plan each
time. All cases run once per round, so that other load on the machine affects all of them alike. The
results are medians over rounds, and ratios to the baseline, torch.add, which reads two tensors and
writes one. Other implementations are timed if they are installed: timm, and torch-audiomentations
(``pip install --no-deps torch-audiomentations julius torch-pitch-shift``). With a GPU the same
table is printed for it, in float32 and bfloat16 against a device copy and without any host
synchronisation; the time that calls take on the host and the operations that they queue; the kernel
alone compared with the bytes it moves; and the fraction of a training step that mixing takes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from birdmix.mix import (
    AMPLITUDE,
    RULES,
    CutMix,
    DrawContext,
    Examples,
    Inject,
    Mixup,
    Mixup2,
    Operator,
    Plan,
)
from birdmix.mix.apply_plan import apply_resolved_plan
from birdmix.mix.resolve_plan import AppliedPlan

# Goals on a GPU: time of the kernel as a multiple of the bytes moved over the bandwidth of a copy,
# and milliseconds until a call returns.
GOAL_KERNEL, GOAL_HOST_MS = 1.25, 0.4

# Cost of one more pass that reads the batch: the baseline reads two tensors and writes one.
READ_PASS = 1 / 3

#: Operators, and their goals as ratios to the baseline.
OPERATORS: dict[str, tuple[Operator, float | None]] = {
    "sum of two": (Mixup(1.0, 1.0), 1.25),
    "convex of two": (Mixup2(1.0, 1.0), 1.25),
    "sum of three": (Mixup(1.0, 0.0), 1.4),
    "dirichlet of four": (Mixup(1.0, num_sources=[0.0, 0.0, 1.0], mix_beta=1.0), 1.7),
    "cut in time": (CutMix(1.0), None),
    "inject from a pool": (Inject(1.0, gain=[0.3, 0.9]), None),
    "convex, amplitude rule": (Mixup2(1.0, 1.0, label_rule=AMPLITUDE), 1.25 + READ_PASS),
    "convex, matched RMS": (Mixup2(1.0, 1.0, match_level="rms"), 1.25 + READ_PASS),
    "convex, audibility threshold": (
        Mixup2(1.0, 1.0, label_rule=replace(RULES["convex"], min_snr_db=-30)),
        1.25 + READ_PASS,
    ),
    "sum of two, peak guard": (Mixup(1.0, 1.0, post="peak_guard"), None),
    "sum of two, independent gains": (Mixup(1.0, 1.0, source_gain=[0.3, 1.0]), None),
    "sum of two, unit power": (Mixup(1.0, 1.0, unit_power=True), None),
    "sum of two, no common class": (Mixup(1.0, 1.0, partners="no_common_class"), None),
    "sum of two, shifted at random": (Mixup(1.0, 1.0, time_shift="random"), None),
    "sum of two, aligned": (Mixup(1.0, 1.0, time_shift="aligned"), None),
    "convex of three": (Mixup2(1.0, 1.0, num_sources2=[0.0, 1.0]), 1.4),
    "convex, matched loudness": (
        Mixup(1.0, 1.0, mix_beta=1.0, match_level="loudness", sample_rate=32_000),
        None,
    ),
}


def cases(x: Tensor, target: Tensor) -> dict[str, Callable[[], object]]:
    """Return the functions to time by name, the baseline first."""
    rng = np.random.default_rng(0)
    other = x.flip(0)
    pool = Examples(other[:16].clone(), target[:16])
    context = context_of(len(x))

    def operator_case(operator: Operator) -> Callable[[], object]:
        mix_pool = pool if isinstance(operator, Inject) else None
        return lambda: operator(x, target, rng=rng, pool=mix_pool, context=context)

    column = (-1, *[1] * (x.dim() - 1))

    def permutation() -> Tensor:
        return torch.from_numpy(rng.permutation(len(x))).to(x.device)

    def draw_lambda() -> Tensor:
        return torch.from_numpy(rng.beta(1, 1, len(x))).to(x).view(column)

    def indexed_convex() -> Tensor:
        lam = draw_lambda()
        return lam * x + (1 - lam) * x[permutation()]

    def matrix_product() -> Tensor:
        lam = draw_lambda()[:, 0]
        mixing = torch.diag(lam)
        mixing[torch.arange(len(x), device=x.device), permutation()] += 1 - lam
        return mixing @ x

    timed: dict[str, Callable[[], object]] = {"baseline: torch.add": lambda: torch.add(x, other)}
    timed |= {name: operator_case(operator) for name, (operator, _) in OPERATORS.items()}
    timed |= {
        "other: indexed sum of two": lambda: x + x[permutation()],
        "other: indexed convex of two": indexed_convex,
        "other: indexed sum of three": lambda: x + x[permutation()] + x[permutation()],
        "other: matrix product": matrix_product,
    }
    return timed | libraries(x, target)


def context_of(batch_size: int) -> DrawContext:
    """Return the context of a batch with one label each and a pool of 16."""
    classes = np.eye(batch_size)
    return DrawContext.from_targets(classes, {"pool": classes[:16]})


def libraries(x: Tensor, target: Tensor) -> dict[str, Callable[[], object]]:
    """Return the functions of other libraries that are installed, by name."""
    timed: dict[str, Callable[[], object]] = {}
    try:
        from timm.data.mixup import Mixup as TimmMixup

        timm_mixup = TimmMixup(
            mode="elem", label_smoothing=0.0, num_classes=target.shape[1], multi_label=True
        )
        x_copy = x.clone()  # timm mixes in place
        timed["other: timm Mixup(mode='elem')"] = lambda: timm_mixup(x_copy, target)
    except (ImportError, TypeError) as error:
        print(f"timm's Mixup is not timed: {error}")
    try:
        from torch_audiomentations.augmentations.mix import Mix

        mix = Mix(p=1.0, output_type="dict", sample_rate=32_000)
        timed["other: torch-audiomentations Mix"] = lambda: mix(x[:, None])
    except ImportError as error:
        print(f"torch-audiomentations is not timed: {error}")
    return timed


def medians(timed: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None]) -> dict:
    """Return the median seconds of each case over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_index in range(rounds + 3):
        for name, case in timed.items():
            wait()
            start = time.perf_counter()
            result = case()
            wait()
            if round_index >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
            del result
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(median_seconds: dict[str, float]) -> None:
    """Print the medians, their ratios to the baseline (the first entry), and the goals."""
    baseline = next(iter(median_seconds.values()))
    print(f"{'':34}{'ms':>8}{'x base':>9}{'goal':>7}")
    for name, seconds in median_seconds.items():
        goal = OPERATORS[name][1] if name in OPERATORS else None
        verdict = (
            "" if goal is None else f"{goal:7.2f}{'' if seconds <= goal * baseline else ' missed'}"
        )
        print(f"{name:34}{seconds * 1e3:8.2f}{seconds / baseline:9.2f}{verdict}")


def report_draws(batch_size: int, median_seconds: dict[str, float]) -> None:
    """Print the time of drawing a plan, as a percentage of the whole call; the goal is 1 %."""
    rng, context = np.random.default_rng(0), context_of(batch_size)
    for name, (operator, _) in OPERATORS.items():
        seconds = []
        for _ in range(300):
            start = time.perf_counter()
            operator.draw(context, rng)
            seconds.append(time.perf_counter() - start)
        draw_seconds = statistics.median(seconds)
        percent = 100 * draw_seconds / median_seconds[name]
        print(f"drawing {name:30}{draw_seconds * 1e6:8.0f} us{percent:8.2f} %")


def extra_memory(name: str, shape: tuple[int, int]) -> float:
    """Return the increase of peak memory over one call in this new process, in output sizes."""
    x, target = torch.randn(shape), torch.eye(shape[0])
    operator = OPERATORS[name][0]
    small = torch.randn(shape[0], 100)
    pool = Examples(x[:16].clone(), target[:16])
    small_pool = Examples(small[:16], target[:16])
    rng, context = np.random.default_rng(0), context_of(shape[0])
    operator(small, target, rng=rng, pool=small_pool, context=context)  # loads libraries
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory()
    mixed = operator(x, target, rng=np.random.default_rng(0), pool=pool, context=context)
    assert mixed.x is not x
    return (peak_memory() - before) / x.nbytes


def peak_memory() -> int:
    """Return the peak memory of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def report_memory(shape: tuple[int, int]) -> None:
    """Print the extra peak memory of each operator, each measured in a process of its own."""
    for name in OPERATORS:
        command = [sys.executable, __file__, "--memory", name]
        command += ["--batch", str(shape[0]), "--samples", str(shape[1])]
        completed = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"memory of {name:30}{float(completed.stdout):6.2f} outputs")


def report_gpu(shape: tuple[int, int], rounds: int) -> None:
    """Print the table of a GPU: the baseline is a device copy; host synchronisation is an error."""
    print(f"\n{torch.cuda.get_device_name()}; baseline: a device copy, read one, write one")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, device="cuda", dtype=dtype)
        target = torch.eye(shape[0], device="cuda")
        timed = {"baseline: device copy": x.clone, **cases(x, target)}
        rng, context = np.random.default_rng(0), context_of(shape[0])
        pool = Examples(x[:16], target[:16])
        for operator, _ in OPERATORS.values():  # the first call compiles kernels
            operator(x, target, rng=rng, pool=pool, context=context)
        torch.cuda.set_sync_debug_mode("error")  # fails if an operator synchronises
        for operator, _ in OPERATORS.values():
            operator(x, target, rng=rng, pool=pool, context=context)
        torch.cuda.set_sync_debug_mode("default")
        print(f"{dtype}, no host synchronisation")
        report(medians(timed, rounds, torch.cuda.synchronize))
    print(f"\n{'':34}{'host ms':>10}{'goal':>6}{'operations on the device':>26}")
    for name, (operator, _) in OPERATORS.items():
        x = torch.randn(shape, device="cuda")
        host_ms = measure_host_ms(operator, x, target, rounds)
        count = count_device_operations(operator, x, target)
        print(
            f"{name:34}{host_ms:10.2f}{GOAL_HOST_MS:6.1f}{count:26d}{missed(host_ms, GOAL_HOST_MS)}"
        )


def missed(value: float, goal: float) -> str:
    return "" if value <= goal else " missed"


def gpu_call(operator: Operator, x: Tensor, target: Tensor) -> Callable[[], object]:
    """Return a call of an operator on a batch with a pool of 16."""
    rng, context = np.random.default_rng(0), context_of(len(x))
    pool = Examples(x[:16].clone(), target[:16])
    return lambda: operator(x, target, rng=rng, pool=pool, context=context)


def measure_host_ms(operator: Operator, x: Tensor, target: Tensor, rounds: int) -> float:
    """Return the median milliseconds until a call returns, with an empty queue on the device."""
    call = gpu_call(operator, x, target)
    seconds = []
    for _ in range(rounds + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[3:])


def count_device_operations(operator: Operator, x: Tensor, target: Tensor) -> int:
    """Return the number of kernels and copies that one call queues on the device."""
    from torch.profiler import DeviceType, ProfilerActivity, profile

    call = gpu_call(operator, x, target)
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in profiler.events())


def device_ms(case: Callable[[], object], rounds: int) -> float:
    """Return the median milliseconds of a call on the device, by CUDA events."""
    times = []
    for _ in range(rounds + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(1_000_000)  # the host is ahead: no waits between launches are measured
        begin.record()
        case()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[3:])


def report_kernel(shape: tuple[int, int], rounds: int) -> None:
    """Print the time of the sum alone, compared with the bytes it moves at a copy's bandwidth."""
    print(f"\nthe kernel alone, {shape[0]} x {shape[1]:,}, by CUDA events")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, device="cuda", dtype=dtype)
        pass_ms = device_ms(x.clone, rounds) / 2  # one read or one write of the batch
        for num_sources in (2, 3, 4):
            partners = [np.roll(np.arange(shape[0]), 7 * step) for step in range(num_sources)]
            source = np.stack(partners, axis=1)
            plan = Plan(source, np.full(source.shape, 0.5, np.float32))
            applied = AppliedPlan.from_plan(plan, shape, x.device)
            ms = device_ms(lambda: apply_resolved_plan(plan, applied, x, None, "none"), rounds)  # noqa: B023
            ratio = ms / (pass_ms * (num_sources + 1))
            print(
                f"{dtype}, {num_sources} sources: {ms:.3f} ms, {ms / pass_ms / 2:.2f} copies, "
                f"{ratio:.2f} x bytes moved / bandwidth (goal {GOAL_KERNEL})"
                f"{missed(ratio, GOAL_KERNEL)}"
            )


def report_gpu_step_fraction(batch_size: int) -> None:
    """Print the fraction of an efficientnet_b0 step that mixing takes on a GPU; goal 1 %."""
    mix, step = training_step("cuda", batch_size, torch.bfloat16)
    for _ in range(5):
        mix()
        step()
    mixing, whole = [], []
    for _ in range(20):  # queued without waiting, as in training
        events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
        events[0].record()
        mix()
        events[1].record()
        step()
        events[2].record()
        mixing.append(events[:2])
        whole.append(events[::2])
    torch.cuda.synchronize()
    mix_ms, step_ms = (
        statistics.median(begin.elapsed_time(end) for begin, end in pairs)
        for pairs in (mixing, whole)
    )
    percent = 100 * mix_ms / step_ms
    print(
        f"both mixes in an efficientnet_b0 step of {batch_size} segments, cuda, bfloat16, by CUDA "
        f"events: {mix_ms:.2f} of {step_ms:.1f} ms, {percent:.2f} % (goal 1 %){missed(percent, 1)}"
    )


def training_step(
    device: str, batch_size: int, dtype: torch.dtype
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return both mixes of a batch, and the rest of a training step of efficientnet_b0 on 5 s."""
    import timm

    from birdmix.frontend.log_mel import LogMel
    from birdmix.frontend.settings import LogMelSettings

    settings = LogMelSettings()
    network = timm.create_model("efficientnet_b0", in_chans=1, num_classes=20).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    log_mel = LogMel(settings).to(device)
    x = torch.randn(batch_size, settings.seconds_to_num_samples(5.0), device=device)
    mel = log_mel(x)
    target = torch.rand(batch_size, 20, device=device)
    rng, context = np.random.default_rng(0), context_of(batch_size)
    mixup, mixup2 = Mixup(1.0, 0.5), Mixup2(1.0, 1.0)

    def mix() -> None:
        mixup(x, target, rng=rng, context=context)
        mixup2(mel, target, rng=rng, context=context)

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            logits = network(log_mel(x))
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return mix, step


def report_step_fraction(batch_size: int) -> None:
    """Print the fraction of an efficientnet_b0 step that mixing takes on a CPU; goal 2 %."""
    mix, step = training_step("cpu", batch_size, torch.float32)
    times = medians({"mix": mix, "step": step}, 8, lambda: None)
    percent = 100 * times["mix"] / (times["mix"] + times["step"])
    print(
        f"both mixes in an efficientnet_b0 step of {batch_size} segments, cpu, float32: "
        f"{times['mix'] * 1e3:.1f} ms, {percent:.1f} % of the step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=160_000)
    parser.add_argument(
        "--memory", choices=list(OPERATORS), help="measure this operator's memory only"
    )
    parser.add_argument("--gpu-only", action="store_true", help="leave out the part on the CPU")
    options = parser.parse_args()
    shape = (options.batch, options.samples)
    if options.gpu_only:
        torch.manual_seed(0)
        report_on_gpu(shape, options.rounds)
        return
    if options.memory:
        print(extra_memory(options.memory, shape))
        return
    torch.manual_seed(0)
    print(f"{shape[0]} x {shape[1]:,} float32, {torch.get_num_threads()} threads")
    x, target = torch.randn(shape), torch.eye(shape[0])
    times = medians(cases(x, target), options.rounds, lambda: None)
    report(times)
    print()
    report_draws(shape[0], times)
    print()
    report_memory(shape)
    print()
    report_step_fraction(16)
    if torch.cuda.is_available():
        report_on_gpu(shape, options.rounds)


def report_on_gpu(shape: tuple[int, int], rounds: int) -> None:
    """Print all that is measured on a GPU."""
    report_gpu(shape, rounds)
    report_kernel((256, 160_000), rounds)
    report_gpu_step_fraction(64)


if __name__ == "__main__":
    main()
