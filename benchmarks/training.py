"""Training speed, relative to the speed of the bare network.

    python benchmarks/training.py                      # the default run on the demo
    python benchmarks/training.py mix=none data.num_workers=2
    python benchmarks/training.py model=efficientnet_b0 data.batch_size=128 data.num_workers=12 \
        trainer.precision=bf16-mixed frontend=log_mel_128 data.memory_gib=0   # on a GPU

Bare loop: the same network, optimizer, clipping and average, trained on one log-mel batch that is
kept in memory. A few of its steps are timed between the epochs of a run, so that both are measured
under the same load. Whole steps on one batch are timed there, too: with mixing, log-mel and loss,
but without the loader; what they lose is lost in the step, and the rest beside the loader's
processes. All rates exclude validation and saving, which are reported separately.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from real_recordings import build_config

from birdmix.experiments.builders import build_training_run
from birdmix.loading.loader import end_workers
from birdmix.loading.run_data import open_data
from birdmix.training.device_batches import DeviceBatches
from birdmix.training.distributed_processes import connect_processes
from birdmix.training.run_position import RunPosition, TrainingHook
from birdmix.training.training_loop import fit, optimizer_step
from birdmix.training.training_run import TrainingRun
from birdmix.training.training_step import TrainingStep

OVERHEADS = ("validation", "saving")


class BareLoop(TrainingHook):
    """Training hook that times the bare loop between the epochs of a run.

    Args:
        run: The measured run.
        bare: A second run of the same settings, whose network the bare loop trains.
        num_steps: Optimizer steps of the bare loop after each epoch.
    """

    def __init__(self, run: TrainingRun, bare: TrainingRun, num_steps: int) -> None:
        self.run, self.bare, self.num_steps = run, bare, num_steps
        self.device = bare.fabric.device
        step: TrainingStep = bare.step
        host_batch = next(iter(bare.batches))
        self.batches = DeviceBatches(repeat(host_batch), bare.fabric)
        batch = bare.fabric.to_device(host_batch)
        end_workers(bare.batches)  # else the script waits for them at its end
        self.examples = batch.examples._replace(x=step.log_mel(batch.examples.x))
        self.segments = 0
        self.rows: list[dict[str, float]] = []

    def on_batch(self, position: RunPosition, num_examples: int) -> None:
        self.segments += num_examples

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        training_seconds = sum(value for phase, value in seconds.items() if phase not in OVERHEADS)
        total = sum(seconds.values())
        row = {phase: value / total for phase, value in seconds.items()}
        row |= {"trained": self.segments / training_seconds}
        row |= {"bare": self.measure_rate(self.bare_step), "whole": self.measure_rate(self.step)}
        self.rows.append(row)
        self.segments = 0
        self.run.timer.end_phase("loading")
        self.run.timer.read_and_reset()  # exclude this measurement from the run's times

    def measure_rate(self, step: Callable[[], None]) -> float:
        """Return the speed of a loop of steps, in segments per second."""
        self.bare.step.classifier.train()
        self.wait()
        start = time.perf_counter()
        for _ in range(self.num_steps):
            step()
        self.wait()
        return self.num_steps * len(self.examples.x) / (time.perf_counter() - start)

    def bare_step(self) -> None:
        logits = self.bare.step.classifier(self.examples.x).logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self.examples.target)
        self.bare.fabric.backward(loss)
        self.bare.fabric.clip_gradients(
            self.bare.step.classifier, self.bare.optimizer, max_norm=5.0, error_if_nonfinite=False
        )
        self.bare.optimizer.step()
        self.bare.optimizer.zero_grad()
        if self.bare.average is not None:
            self.bare.average.update_parameters(self.bare.model)

    def step(self) -> None:
        """Train a whole step, as the run does, on the batch in memory."""
        self.bare.position.batch = 0
        optimizer_step(self.bare, self.batches)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(overrides: list[str], epochs: int, num_steps: int) -> None:
    """Train a run, time the bare loop after each epoch, and print both speeds.

    Args:
        overrides: Settings of the run, key=value.
        epochs: Epochs of the run, 2 or more.
        num_steps: Optimizer steps of the bare loop after each epoch.
    """
    config = build_config(["data.root=data/demo", *overrides, f"trainer.max_epochs={epochs}"])
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    processes = connect_processes(config.trainer)
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for name in ("run", "bare"):
            (Path(folder) / name).mkdir()
            runs.append(build_training_run(config, data, Path(folder) / name, processes))
        run, bare = runs
        bare_loop = BareLoop(run, bare, num_steps)
        run.hooks = [bare_loop]
        fit(run)
    rows = bare_loop.rows[1:]  # the first epoch warms up
    ratio = np.array([row["trained"] / row["bare"] for row in rows])
    print(f"\n{' '.join(overrides) or 'the default run'}, {len(rows)} epochs after the first")
    print(f"  bare loop  {np.median([row['bare'] for row in rows]):8.1f} segments/s")
    print(f"  one batch  {np.median([row['whole'] for row in rows]):8.1f} segments/s")
    print(f"  training   {np.median([row['trained'] for row in rows]):8.1f} segments/s")
    print(f"  ratio      {np.median(ratio):8.3f}   ({ratio.min():.3f} to {ratio.max():.3f})")
    fractions = {phase: np.mean([row[phase] for row in rows]) for phase in run.timer.seconds}
    percentages = (f"{phase} {100 * value:.1f} %" for phase, value in fractions.items())
    print("  time       " + ", ".join(percentages))
    save_seconds = run.checkpoint_schedule.last_duration_seconds
    print(f"  one save   {1000 * save_seconds:8.0f} ms: {save_seconds / 3:.3f} % of 5 minutes")
    if torch.cuda.is_available():
        print(f"  peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument(
        "--steps", type=int, default=9, help="optimizer steps of the bare loop after each epoch"
    )
    arguments = parser.parse_args()
    measure(arguments.overrides, arguments.epochs, arguments.steps)


if __name__ == "__main__":
    main()
