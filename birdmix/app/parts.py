"""Several processes on one folder: who hears what, and where each writes."""

import os
from dataclasses import dataclass
from pathlib import Path

from birdmix.suggest import first_few


@dataclass(frozen=True)
class Part:
    """A process's share of a folder.

    Attributes:
        number: Of the process, from 0.
        count: Processes in all.
    """

    number: int = 0
    count: int = 1

    @staticmethod
    def of_process() -> "Part":
        """Ask torchrun or SLURM (the tasks of a step, the jobs of an array, or both)."""
        env = os.environ
        if "RANK" in env and "WORLD_SIZE" in env:
            task = Part(int(env["RANK"]), int(env["WORLD_SIZE"]))
        else:  # SLURM_NTASKS stands in a batch script too, whose one process is all there is
            task = Part(int(env.get("SLURM_PROCID", 0)), int(env.get("SLURM_STEP_NUM_TASKS", 1)))
            task = task if task.count > 1 else Part()
        if "SLURM_ARRAY_TASK_COUNT" not in env:
            return task
        first, step = int(env["SLURM_ARRAY_TASK_MIN"]), int(env.get("SLURM_ARRAY_TASK_STEP", 1))
        job = (int(env["SLURM_ARRAY_TASK_ID"]) - first) // step
        jobs = int(env["SLURM_ARRAY_TASK_COUNT"])
        return Part(job * task.count + task.number, jobs * task.count)

    def deal(self, paths: list[str]) -> list[str]:
        """Return this process's share: every so manieth, so that long nights are spread."""
        return paths[self.number :: self.count]

    def folder(self, out: Path) -> Path:
        """Return where this process writes.

        Raises:
            ValueError: If another number of processes wrote there.
        """
        name = f"part-{self.number + 1:04d}-of-{self.count:04d}"
        others = sorted(
            each.name for each in out.glob("part-*-of-*") if each.name[-4:] != name[-4:]
        )
        alone = self.count == 1
        if others or (not alone and (out / "detections.csv").exists()):
            there = first_few(others) or "detections.csv"
            raise ValueError(
                f"{out} holds what another number of processes heard ({there}), not {self.count}; "
                "take another --out, or as many processes as then"
            )
        return out if alone else out / name
