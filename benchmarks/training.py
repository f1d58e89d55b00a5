"""How near training runs to its network's own speed.

    python benchmarks/training.py                      # the default run on the demo
    python benchmarks/training.py mix=none data.num_workers=2
    python benchmarks/training.py model=efficientnet_b0 data.batch_size=128 data.num_workers=12 \
        trainer.precision=bf16-mixed frontend=log_mel_128 data.memory_gib=0   # on a GPU

Floor: the same network, optimizer, clipping and average, trained on one log-mel batch that lies in
memory. Between the epochs of a run a few of its steps are timed, so that both see the same machine.
Both rates leave out validation and saving, whose cost is given apart.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from real_recordings import configured

from birdmix.app.build import build_training
from birdmix.app.data import open_data
from birdmix.app.schema import Config
from birdmix.training.loop import fit
from birdmix.training.position import Position
from birdmix.training.processes import open_processes
from birdmix.training.run import Training
from birdmix.training.step import TrainingStep

OVERHEADS = ("validation", "saving")


class Floor:
    """The bare loop, timed between the epochs of a run; a hook of it."""

    def __init__(self, config: Config, run: Training, bare: Training, num_steps: int) -> None:
        self.run, self.bare, self.num_steps = run, bare, num_steps
        self.device = bare.fabric.device
        step: TrainingStep = bare.step
        batch = bare.fabric.to_device(next(iter(bare.batches)))
        self.batch = batch._replace(x=step.log_mel(batch.x))
        self.segments = 0
        self.rows: list[dict[str, float]] = []

    def on_batch(self, position: Position, num_samples: int) -> None:
        self.segments += num_samples

    def on_validation(self) -> None:
        pass

    def on_epoch(self, metrics: dict[str, float], seconds: dict[str, float]) -> None:
        spent = sum(value for part, value in seconds.items() if part not in OVERHEADS)
        whole = sum(seconds.values())
        row = {part: value / whole for part, value in seconds.items()}
        row |= {"trained": self.segments / spent, "bare": self.rate()}
        self.rows.append(row)
        self.segments = 0
        self.run.clock.mark("loading")
        self.run.clock.lap()  # this pause is nobody's

    def rate(self) -> float:
        """Return the segments a second of the bare loop."""
        self.bare.step.classifier.train()
        self.wait()
        began = time.perf_counter()
        for _ in range(self.num_steps):
            self.bare_step()
        self.wait()
        return self.num_steps * len(self.batch.x) / (time.perf_counter() - began)

    def bare_step(self) -> None:
        logits = self.bare.step.classifier(self.batch.x).clip
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self.batch.target)
        self.bare.fabric.backward(loss)
        self.bare.fabric.clip_gradients(
            self.bare.step.classifier, self.bare.optimizer, max_norm=5.0, error_if_nonfinite=False
        )
        self.bare.optimizer.step()
        self.bare.optimizer.zero_grad()
        if self.bare.average is not None:
            self.bare.average.update_parameters(self.bare.model)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(overrides: list[str], epochs: int, num_steps: int) -> None:
    given = ["data.root=data/demo", *overrides, f"trainer.max_epochs={epochs}"]
    config = configured(given)
    data = open_data(config.data, config.frontend.log_mel.sample_rate)
    processes = open_processes(config.trainer)
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for name in ("run", "bare"):
            (Path(folder) / name).mkdir()
            runs.append(build_training(config, data, Path(folder) / name, processes))
        run, bare = runs
        floor = Floor(config, run, bare, num_steps)
        run.hooks = [floor]
        fit(run)
    rows = floor.rows[1:]  # the first epoch warms up
    ratio = np.array([row["trained"] / row["bare"] for row in rows])
    print(f"\n{' '.join(overrides) or 'the default run'}, {len(rows)} epochs after the first")
    print(f"  bare loop  {np.median([row['bare'] for row in rows]):8.1f} segments/s")
    print(f"  training   {np.median([row['trained'] for row in rows]):8.1f} segments/s")
    print(f"  ratio      {np.median(ratio):8.3f}   ({ratio.min():.3f} to {ratio.max():.3f})")
    shares = {part: np.mean([row[part] for row in rows]) for part in run.clock.seconds}
    print(
        "  shares     " + ", ".join(f"{part} {100 * share:.1f} %" for part, share in shares.items())
    )
    print(f"  one save   {1000 * run.saves.cost:8.0f} ms: {run.saves.cost / 3:.3f} % of 5 minutes")
    if torch.cuda.is_available():
        print(f"  peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=9, help="of the bare loop after each epoch")
    arguments = parser.parse_args()
    measure(arguments.overrides, arguments.epochs, arguments.steps)


if __name__ == "__main__":
    main()
