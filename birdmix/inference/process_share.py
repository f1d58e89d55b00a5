"""A prediction by several processes: the share of each, and the folder it writes to."""

import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmix.messages import first_few

_FOLDER = re.compile(r"part-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class ProcessShare:
    """A process's share of a folder of recordings.

    Attributes:
        number: Number of the process, from 1.
        count: Number of processes.

    Raises:
        ValueError: If the number is not in 1 .. count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"part {self.number} of {self.count}: there is no such part")

    @staticmethod
    def parse(text: str | None) -> "ProcessShare":
        """Parse ``3/8``; None takes the share from the launcher's environment.

        Raises:
            ValueError: If the text has another form, or the launcher's numbers do not fit.
        """
        if text is None:
            return ProcessShare.from_environment(os.environ)
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ValueError(f"--part {text}: write it as 3/8, the third part of eight")
        return ProcessShare(int(match[1]), int(match[2]))

    @staticmethod
    def from_environment(env: Mapping[str, str]) -> "ProcessShare":
        """Return the share set by torchrun or SLURM (a step's tasks, an array's jobs, or both)."""
        task, tasks = 0, 1
        if "RANK" in env and "WORLD_SIZE" in env:
            task, tasks = int(env["RANK"]), int(env["WORLD_SIZE"])
        # SLURM_NTASKS is also set in a batch script, which is a single process.
        elif "SLURM_PROCID" in env and "SLURM_STEP_NUM_TASKS" in env:
            task, tasks = int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"])
        job, jobs = _job_of_array(env) if "SLURM_ARRAY_TASK_COUNT" in env else (0, 1)
        return ProcessShare(job * tasks + task + 1, jobs * tasks)

    def select(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of this share; which share a path is in depends on its name alone."""
        names = ((path, path.encode("utf-8", "surrogateescape")) for path in paths)
        return [path for path, name in names if zlib.crc32(name) % self.count == self.number - 1]

    def output_folder(self, out: Path) -> Path:
        """Return the folder that this process writes to.

        Raises:
            ValueError: If another number of processes wrote to ``out``.
        """
        counts = {
            path.name: int(match[2])
            for path in sorted(out.glob("part-*-of-*"))
            if (match := _FOLDER.fullmatch(path.name))
        }
        others = [name for name, count in counts.items() if count != self.count]
        if self.count > 1 and (out / "detections.csv").exists():
            others = ["detections.csv"]
        if others:
            raise ValueError(
                f"{out} holds predictions of another number of processes ({first_few(others)}); "
                "use another --out, the former number of processes, or --part, as 3/8, to do one "
                "part again"
            )
        return out if self.count == 1 else out / f"part-{self.number:04d}-of-{self.count:04d}"


def _job_of_array(env: Mapping[str, str]) -> tuple[int, int]:
    """Return a job's number in its SLURM array, from 0, and the number of jobs."""
    jobs, job = int(env["SLURM_ARRAY_TASK_COUNT"]), int(env.get("SLURM_ARRAY_TASK_ID", 0))
    first, last = int(env.get("SLURM_ARRAY_TASK_MIN", 0)), int(env.get("SLURM_ARRAY_TASK_MAX", 0))
    stride = int(env.get("SLURM_ARRAY_TASK_STEP", 1))
    if (last - first) // stride + 1 != jobs:
        raise ValueError(
            f"an array of {jobs} jobs from {first} to {last} has gaps, so the part of a job is "
            "unknown; use an array without gaps, or --part $N/COUNT"
        )
    return (job - first) // stride, jobs
