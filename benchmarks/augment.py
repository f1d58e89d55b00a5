"""Time the augmentations of whole batches against audiomentations, on a CPU and on a GPU.

    OMP_NUM_THREADS=2 python benchmarks/augment.py [--rounds 5] [--batch 64] [--seconds 5]
    python benchmarks/augment.py --gpu-only

Every example is augmented (prob=1), with parameters over the whole range. On the CPU all cases run
once per round, so that other load on the machine affects all alike; ratios are medians of the
ratios within a round. Beside the ratio of elapsed times stands that of processor times, of all
threads together: on two idle cores an augmentation can be at most twice as fast as that. The rival
is audiomentations' nearest transform, one waveform at a time, as a training step would call it;
torch-audiomentations is timed if it is installed. The floor is one pass over the batch,
``torch.mul``.

On a GPU, by CUDA events: each augmentation, also as the fraction of a training step of
efficientnet_b0 and tf_efficientnetv2_s (bfloat16, random weights), and the augmentations of the
recipe of the 2nd place, which may take 10 % of its step.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from birdmix.augment import (
    Augmentation,
    AugmentSettings,
    CircularShift,
    ColouredNoise,
    FilterAugment,
    FreqMixStyle,
    Gain,
    PitchShift,
    RandomFilter,
    Speed,
    build_augment_stages,
)
from birdmix.frontend.log_mel import LogMel
from birdmix.frontend.settings import LogMelSettings
from birdmix.model.classifier import Classifier
from birdmix.model.settings import ModelSettings

RATE = 32_000
#: Goals: times as fast as audiomentations, and largest part of the recipe's step on a GPU.
GOAL_SPEED_UP, GOAL_FRACTION = 5, 0.1
#: Backbones of the training steps on a GPU; the recipe has the second.
BACKBONES = ("efficientnet_b0", "tf_efficientnetv2_s")

WAVEFORM: dict[str, Augmentation] = {
    "pitch shift": PitchShift(1.0, [-4, 4], sample_rate=RATE),
    "speed": Speed(1.0, [0.8, 1.25]),
    "circular shift": CircularShift(1.0),
    "random filter": RandomFilter(1.0),
    "coloured noise": ColouredNoise(1.0),
    "gain": Gain(1.0),
}
LOG_MEL: dict[str, Augmentation] = {
    "Freq-MixStyle": FreqMixStyle(1.0),
    "FilterAugment": FilterAugment(1.0),
}


def build_rivals() -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Return audiomentations' nearest transforms by augmentation: the name, and the function."""
    import audiomentations

    transforms = {
        "pitch shift": audiomentations.PitchShift(-4, 4, p=1),
        "speed": audiomentations.Resample(25_600, 40_000, p=1),
        "circular shift": audiomentations.Shift(-0.5, 0.5, rollover=True, p=1),
        "random filter": audiomentations.SevenBandParametricEQ(-15, 0, p=1),
        "coloured noise": audiomentations.AddColorNoise(3, 30, p=1),
        "gain": audiomentations.Gain(-6, 6, p=1),
    }
    return {
        name: (type(each).__name__, partial(each, sample_rate=RATE))
        for name, each in transforms.items()
    }


def build_torch_rivals() -> dict[str, Callable[[Tensor], object]]:
    """Return the transforms of torch-audiomentations by augmentation, if it is installed."""
    try:
        import torch_audiomentations
    except ImportError as error:
        print(f"torch-audiomentations is not timed: {error}")
        return {}
    options = {"p": 1.0, "sample_rate": RATE, "output_type": "dict"}
    transforms = {
        "pitch shift": torch_audiomentations.PitchShift(
            min_transpose_semitones=-4, max_transpose_semitones=4, **options
        ),
        "circular shift": torch_audiomentations.Shift(**options),
        "coloured noise": torch_audiomentations.AddColoredNoise(**options),
        "gain": torch_audiomentations.Gain(**options),
    }
    return {name: partial(call_with_channel, each) for name, each in transforms.items()}


def call_with_channel(transform: Callable[[Tensor], object], x: Tensor) -> object:
    return transform(x[:, None])


def apply_to_each(
    transform: Callable[[np.ndarray], np.ndarray], waveforms: list[np.ndarray]
) -> Tensor:
    """Augment one waveform at a time, to a batch of the same length."""
    batch = np.zeros((len(waveforms), len(waveforms[0])), np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        changed = transform(waveform)[: len(row)]
        row[: len(changed)] = changed
    return torch.from_numpy(batch)


def time_once(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def time_on_cpu(x: Tensor, rounds: int) -> None:
    """Time all augmentations and their rivals on the CPU, and print the table."""
    rng = np.random.default_rng(0)
    log_mel = LogMel(LogMelSettings(sample_rate=RATE))(x)
    rivals, torch_rivals = build_rivals(), build_torch_rivals()
    waveforms = [*x.numpy()]
    cases: dict[str, Callable[[], object]] = {"floor": lambda: torch.mul(x, 2.0)}
    for name, augmentation in (WAVEFORM | LOG_MEL).items():
        batch = x if name in WAVEFORM else log_mel
        cases[name] = partial(augmentation, batch, rng=rng)
    for name, (_, transform) in rivals.items():
        cases[f"rival {name}"] = partial(apply_to_each, transform, waveforms)
    for name, function in torch_rivals.items():
        cases[f"torch {name}"] = partial(function, x)
    for case in cases.values():
        case()  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    processor: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            start = time.process_time()
            seconds[name].append(time_once(case))
            processor[name].append(time.process_time() - start)
    print(f"\nCPU, {len(x)} x {x.shape[1] / RATE:g} s, {torch.get_num_threads()} threads")
    print(f"{'':16}{'ms':>9}{'x floor':>9}   rival, ms, times as fast, by processor time")
    for name in WAVEFORM | LOG_MEL:
        own = seconds[name]
        line = f"{name:16}{1e3 * statistics.median(own):9.1f}{ratio(own, seconds['floor']):9.1f}"
        if name in rivals:
            line += f"   {rivals[name][0]:22}" + compare(own, seconds[f"rival {name}"])
            line += f"{ratio(processor[f'rival {name}'], processor[name]):7.1f}"
        if name in torch_rivals:
            speed_up = ratio(seconds[f"torch {name}"], own)
            line += f", torch-audiomentations {speed_up:.1f}"
        print(line)


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def compare(own: list[float], rival: list[float]) -> str:
    """Return a rival's time, how many times as fast birdmix is, and whether the goal is met."""
    speed_up = ratio(rival, own)
    verdict = "met" if speed_up >= GOAL_SPEED_UP else "missed"
    return f"{1e3 * statistics.median(rival):9.1f}{speed_up:7.1f}  ({GOAL_SPEED_UP}: {verdict})"


def time_on_gpu(batch_size: int, num_samples: int, rounds: int) -> None:
    """Time augmentations and training steps on the GPU, and print the tables."""
    device = torch.device("cuda")
    print(f"\n{torch.cuda.get_device_name()}, {batch_size} x {num_samples / RATE:g} s")
    settings = LogMelSettings(sample_rate=RATE, normalise="fixed")
    x = 0.1 * torch.randn(batch_size, num_samples, device=device)
    front_end = LogMel(settings).to(device)
    log_mel = front_end(x)
    rng = np.random.default_rng(0)
    step_ms = {
        backbone: cuda_ms(build_step(backbone, front_end, x), rounds) for backbone in BACKBONES
    }
    for backbone, milliseconds in step_ms.items():
        print(f"step of {backbone:24}{milliseconds:9.2f} ms")
    print(f"{'':16}{'ms':>9}{'host ms':>9}" + "".join(f"{each:>22}" for each in BACKBONES))
    for name, augmentation in (WAVEFORM | LOG_MEL).items():
        batch = x if name in WAVEFORM else log_mel
        report_on_gpu(name, partial(augmentation, batch, rng=rng), step_ms, rounds)
    recipe = AugmentSettings()
    recipe.pitch_shift.prob = recipe.circular_shift.prob = 0.4
    stages = build_augment_stages(recipe, settings).waveform
    fractions = report_on_gpu("the recipe", partial(apply_all, stages, x, rng), step_ms, rounds)
    verdict = "met" if fractions[BACKBONES[1]] <= GOAL_FRACTION else "missed"
    print(f"the recipe takes at most {GOAL_FRACTION:.0%} of its step: {verdict}")
    for name, function in build_torch_rivals().items():
        print(f"torch-audiomentations, {name}: {cuda_ms(partial(function, x), rounds):.2f} ms")


def apply_all(
    augmentations: Mapping[str, Augmentation], x: Tensor, rng: np.random.Generator
) -> Tensor:
    for augmentation in augmentations.values():
        x = augmentation(x, rng=rng)
    return x


def report_on_gpu(
    name: str, case: Callable[[], object], step_ms: dict[str, float], rounds: int
) -> dict[str, float]:
    """Print the time of a case; return the fraction of each step with it that it takes."""
    milliseconds = cuda_ms(case, rounds)
    fractions = {each: milliseconds / (milliseconds + step) for each, step in step_ms.items()}
    columns = "".join(f"{100 * value:20.1f} %" for value in fractions.values())
    print(f"{name:16}{milliseconds:9.2f}{host_ms(case, rounds):9.2f}{columns}")
    return fractions


def build_step(backbone: str, front_end: LogMel, x: Tensor) -> Callable[[], None]:
    """Return a training step without augmentation: log-mel, network, loss, update."""
    size = tuple(front_end(x[:1]).shape[2:])
    model = Classifier(ModelSettings(backbone=backbone), 200, input_size=(size[0], size[1]))
    model = model.to(x.device)
    optimizer = torch.optim.AdamW(model.parameters())
    target = torch.zeros(len(x), 200, device=x.device)

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(front_end(x)).logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def cuda_ms(case: Callable[[], object], rounds: int) -> float:
    """Return the median time of a case in milliseconds between two CUDA events."""
    times = []
    for index in range(rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        case()
        end.record()
        torch.cuda.synchronize()
        if index >= 3:  # the first rounds warm up
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def host_ms(case: Callable[[], object], rounds: int) -> float:
    """Return the median time in milliseconds until a call returns; it fails if it waits."""
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        times.append(1e3 * time_once(case))
        torch.cuda.set_sync_debug_mode("default")
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--gpu-only", action="store_true")
    arguments = parser.parse_args()
    num_samples = int(arguments.seconds * RATE)
    if not arguments.gpu_only:
        time_on_cpu(0.1 * torch.randn(arguments.batch, num_samples), arguments.rounds)
    if torch.cuda.is_available():
        time_on_gpu(arguments.batch, num_samples, 4 * arguments.rounds)
    else:
        print("\nno GPU: its part is not measured")


if __name__ == "__main__":
    main()
