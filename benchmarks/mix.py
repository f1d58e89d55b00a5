"""Time mix operators against torch.add and other implementations, on a CPU and on a GPU.

    python benchmarks/mix.py [--rounds 40] [--batch 64] [--samples 160000]

The time of whole operator calls is measured: draw, resolve, apply and join, with a new plan each
time. All cases run once per round, so that other load on the machine affects all of them alike. The
results are medians over rounds, and ratios to the baseline, torch.add, which reads two tensors and
writes one. Other implementations are timed if they are installed: timm, and torch-audiomentations
(``pip install --no-deps torch-audiomentations julius torch-pitch-shift``). With a GPU the same
table is printed for it, in float32 and bfloat16 against a device copy and without any host
synchronisation, and the fraction of a training step that mixing takes.
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
)

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
        torch.cuda.set_sync_debug_mode("error")  # fails if an operator synchronises
        rng, context = np.random.default_rng(0), context_of(shape[0])
        for operator, _ in OPERATORS.values():
            operator(x, target, rng=rng, pool=Examples(x[:16], target[:16]), context=context)
        torch.cuda.set_sync_debug_mode("default")
        print(f"{dtype}, no host synchronisation")
        report(medians(timed, rounds, torch.cuda.synchronize))


def report_step_fraction(device: str, batch_size: int, dtype: torch.dtype) -> None:
    """Print the fraction of an efficientnet_b0 training step on 5 s that mixing takes; goal 2 %."""
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
    rng = np.random.default_rng(0)
    mixup, mixup2 = Mixup(1.0, 0.5), Mixup2(1.0, 1.0)

    def mix() -> None:
        mixup(x, target, rng=rng)
        mixup2(mel, target, rng=rng)

    def step() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            logits = network(log_mel(x))
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = medians({"mix": mix, "step": step}, 8, wait)
    percent = 100 * times["mix"] / (times["mix"] + times["step"])
    print(
        f"both mixes in an efficientnet_b0 step of {batch_size} segments, {device}, {dtype}: "
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
    options = parser.parse_args()
    shape = (options.batch, options.samples)
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
    report_step_fraction("cpu", 16, torch.float32)
    if torch.cuda.is_available():
        report_gpu(shape, options.rounds)
        report_step_fraction("cuda", 64, torch.bfloat16)


if __name__ == "__main__":
    main()
