"""Time mixing against the floor, reading two tensors and writing one, and against other ways.

    python benchmarks/mix.py [--rounds 40] [--batch 64] [--samples 160000]

Whole operator calls: draw, resolve, apply and join, a new plan each time. All cases run once per
round, so that whatever the machine does meets all of them; medians, as ratios to the floor's.
Rivals are timed if they are installed: timm, and torch-audiomentations (``pip install --no-deps
torch-audiomentations julius torch-pitch-shift``). With a GPU the same table follows for it, in
float32 and bfloat16 against a device copy, without any host synchronisation, and mixing's share of
a training step.
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

from birdmix.mix import AMPLITUDE, RULES, CutMix, Inject, Mixup, Mixup2, Operator, Samples

READ_PASS = 1 / 3  # the floor reads two tensors and writes one

#: Operators and the ratio to the floor that is asked of them.
OPERATORS: dict[str, tuple[Operator, float | None]] = {
    "sum of two": (Mixup(1.0, 1.0), 1.25),
    "convex of two": (Mixup2(1.0, 1.0), 1.25),
    "sum of three": (Mixup(1.0, 0.0), 1.4),
    "dirichlet of four": (Mixup(1.0, num_sources={4: 1.0}, mix_beta=1.0), 1.7),
    "cut in time": (CutMix(1.0), None),
    "inject from a pool": (Inject(1.0, gain=(0.3, 0.9)), None),
    "convex, amplitude rule": (Mixup2(1.0, 1.0, label_rule=AMPLITUDE), 1.25 + READ_PASS),
    "convex, matched RMS": (Mixup2(1.0, 1.0, match_rms=True), 1.25 + READ_PASS),
    "convex, audibility floor": (
        Mixup2(1.0, 1.0, label_rule=replace(RULES["convex"], min_snr_db=-30)),
        1.25 + READ_PASS,
    ),
    "sum of two, peak guard": (Mixup(1.0, 1.0, post="peak_guard"), None),
}


def cases(x: Tensor, target: Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; the floor first."""
    rng = np.random.default_rng(0)
    other = x.flip(0)
    pool = Samples(other[:16].clone(), target[:16])

    def operator_case(operator: Operator) -> Callable[[], object]:
        given = pool if isinstance(operator, Inject) else None
        return lambda: operator(x, target, rng=rng, pool=given)

    column = (-1, *[1] * (x.dim() - 1))

    def permutation() -> Tensor:
        return torch.from_numpy(rng.permutation(len(x))).to(x.device)

    def lam() -> Tensor:
        return torch.from_numpy(rng.beta(1, 1, len(x))).to(x).view(column)

    def indexed_convex() -> Tensor:
        share = lam()
        return share * x + (1 - share) * x[permutation()]

    def matrix_product() -> Tensor:
        share = lam()[:, 0]
        mixing = torch.diag(share)
        mixing[torch.arange(len(x), device=x.device), permutation()] += 1 - share
        return mixing @ x

    timed: dict[str, Callable[[], object]] = {"floor: torch.add": lambda: torch.add(x, other)}
    timed |= {name: operator_case(each) for name, (each, _) in OPERATORS.items()}
    timed |= {
        "rival: indexed sum of two": lambda: x + x[permutation()],
        "rival: indexed convex of two": indexed_convex,
        "rival: indexed sum of three": lambda: x + x[permutation()] + x[permutation()],
        "rival: matrix product": matrix_product,
    }
    return timed | libraries(x, target)


def libraries(x: Tensor, target: Tensor) -> dict[str, Callable[[], object]]:
    """Return the rivals that are installed."""
    timed: dict[str, Callable[[], object]] = {}
    try:
        from timm.data.mixup import Mixup as TimmMixup

        timm_mixup = TimmMixup(
            mode="elem", label_smoothing=0.0, num_classes=target.shape[1], multi_label=True
        )
        scratch = x.clone()  # it mixes in place
        timed["rival: timm Mixup(mode='elem')"] = lambda: timm_mixup(scratch, target)
    except (ImportError, TypeError) as error:
        print(f"timm's Mixup is not timed: {error}")
    try:
        from torch_audiomentations.augmentations.mix import Mix

        mix = Mix(p=1.0, output_type="dict", sample_rate=32_000)
        timed["rival: torch-audiomentations Mix"] = lambda: mix(x[:, None])
    except ImportError as error:
        print(f"torch-audiomentations is not timed: {error}")
    return timed


def medians(timed: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None]) -> dict:
    """Return the median seconds of each case over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 3):
        for name, case in timed.items():
            wait()
            began = time.perf_counter()
            result = case()
            wait()
            if number >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - began)
            del result
    return {name: statistics.median(each) for name, each in seconds.items()}


def report(medians_of: dict[str, float]) -> None:
    floor = next(iter(medians_of.values()))
    print(f"{'':34}{'ms':>8}{'x floor':>9}{'goal':>7}")
    for name, seconds in medians_of.items():
        goal = OPERATORS[name][1] if name in OPERATORS else None
        verdict = (
            "" if goal is None else f"{goal:7.2f}{'' if seconds <= goal * floor else ' missed'}"
        )
        print(f"{name:34}{seconds * 1e3:8.2f}{seconds / floor:9.2f}{verdict}")


def report_draws(batch_size: int, medians_of: dict[str, float]) -> None:
    """Print what drawing a plan costs next to the whole call; the goal is 1 %."""
    rng = np.random.default_rng(0)
    for name, (operator, _) in OPERATORS.items():
        seconds = []
        for _ in range(300):
            began = time.perf_counter()
            operator.draw(batch_size, rng, pool_size=16)
            seconds.append(time.perf_counter() - began)
        drawing = statistics.median(seconds)
        print(f"drawing {name:26}{drawing * 1e6:8.0f} us{100 * drawing / medians_of[name]:8.2f} %")


def extra_memory(name: str, shape: tuple[int, int]) -> float:
    """Return by how many outputs the peak of memory rose over one call, in this fresh process."""
    x, target = torch.randn(shape), torch.eye(shape[0])
    operator = OPERATORS[name][0]
    small = torch.randn(shape[0], 100)
    pool = Samples(x[:16].clone(), target[:16])
    small_pool = Samples(small[:16], target[:16])
    operator(small, target, rng=np.random.default_rng(0), pool=small_pool)  # loads what it needs
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
    before = peak_memory()
    mixed = operator(x, target, rng=np.random.default_rng(0), pool=pool)
    assert mixed.x is not x
    return (peak_memory() - before) / x.nbytes


def peak_memory() -> int:
    """Return the most bytes that this process has held (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def report_memory(shape: tuple[int, int]) -> None:
    for name in OPERATORS:
        command = [sys.executable, __file__, "--memory", name]
        command += ["--batch", str(shape[0]), "--samples", str(shape[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"memory of {name:26}{float(done.stdout):6.2f} outputs")


def report_gpu(shape: tuple[int, int], rounds: int) -> None:
    """Print the table of a GPU: a device copy is the floor, and nothing may wait for the host."""
    print(f"\n{torch.cuda.get_device_name()}; floor: a device copy, read one, write one")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, device="cuda", dtype=dtype)
        target = torch.eye(shape[0], device="cuda")
        timed = {"floor: device copy": x.clone, **cases(x, target)}
        torch.cuda.set_sync_debug_mode("error")  # no operator may synchronise
        rng = np.random.default_rng(0)
        for operator, _ in OPERATORS.values():
            operator(x, target, rng=rng, pool=Samples(x[:16], target[:16]))
        torch.cuda.set_sync_debug_mode("default")
        print(f"{dtype}, no host synchronisation")
        report(medians(timed, rounds, torch.cuda.synchronize))


def report_share_of_a_step(device: str, batch_size: int, dtype: torch.dtype) -> None:
    """Print mixing's share of an efficientnet_b0 training step on 5 s clips; the goal is 2 %."""
    import timm

    from birdmix.frontend.log_mel import LogMel
    from birdmix.frontend.settings import LogMelSettings

    settings = LogMelSettings()
    network = timm.create_model("efficientnet_b0", in_chans=1, num_classes=20).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    log_mel = LogMel(settings).to(device)
    x = torch.randn(batch_size, settings.num_samples(5.0), device=device)
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
    share = 100 * times["mix"] / (times["mix"] + times["step"])
    print(
        f"both mixes in an efficientnet_b0 step of {batch_size} clips, {device}, {dtype}: "
        f"{times['mix'] * 1e3:.1f} ms, {share:.1f} % of the step"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=160_000)
    parser.add_argument("--memory", choices=list(OPERATORS), help="measure one case's memory only")
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
    report_share_of_a_step("cpu", 16, torch.float32)
    if torch.cuda.is_available():
        report_gpu(shape, options.rounds)
        report_share_of_a_step("cuda", 64, torch.bfloat16)


if __name__ == "__main__":
    main()
