"""Several processes on one folder: who hears what, and where each writes."""

import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdmix.suggest import first_few

_FOLDER = re.compile(r"part-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Part:
    """A process's share of a folder.

    Attributes:
        number: Of the process, from 1.
        count: Processes in all.

    Raises:
        ValueError: If there is no such process among so many.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"part {self.number} of {self.count}: there is no such part")

    @staticmethod
    def of(text: str | None) -> "Part":
        """Read ``3/8``, or ask the launcher.

        Raises:
            ValueError: If it is something else, or the launcher's numbers make no sense.
        """
        if text is None:
            return Part.of_process(os.environ)
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ValueError(f"--part {text}: write it as 3/8, the third part of eight")
        return Part(int(match[1]), int(match[2]))

    @staticmethod
    def of_process(env: Mapping[str, str]) -> "Part":
        """Ask torchrun or SLURM (the tasks of a step, the jobs of an array, or both)."""
        task, tasks = 0, 1
        if "RANK" in env and "WORLD_SIZE" in env:
            task, tasks = int(env["RANK"]), int(env["WORLD_SIZE"])
        # SLURM_NTASKS stands in a batch script too, whose one process is all there is.
        elif "SLURM_PROCID" in env and "SLURM_STEP_NUM_TASKS" in env:
            task, tasks = int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"])
        job, jobs = _of_array(env) if "SLURM_ARRAY_TASK_COUNT" in env else (0, 1)
        return Part(job * tasks + task + 1, jobs * tasks)

    def deal(self, paths: Iterable[str]) -> list[str]:
        """Return this process's share, by the names alone: whose one is stays, whoever comes."""
        named = ((path, path.encode("utf-8", "surrogateescape")) for path in paths)
        return [path for path, name in named if zlib.crc32(name) % self.count == self.number - 1]

    def folder(self, out: Path) -> Path:
        """Return where this process writes.

        Raises:
            ValueError: If another number of processes wrote there.
        """
        counts = {
            each.name: int(match[2])
            for each in sorted(out.glob("part-*-of-*"))
            if (match := _FOLDER.fullmatch(each.name))
        }
        others = [name for name, count in counts.items() if count != self.count]
        if self.count > 1 and (out / "detections.csv").exists():
            others = ["detections.csv"]
        if others:
            raise ValueError(
                f"{out} holds what another number of processes heard ({first_few(others)}); take "
                f"another --out, as many processes as then, or --part, as 3/8, to do one part again"
            )
        return out if self.count == 1 else out / f"part-{self.number:04d}-of-{self.count:04d}"


def _of_array(env: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of a job in its array, from 0, and how many there are."""
    jobs, job = int(env["SLURM_ARRAY_TASK_COUNT"]), int(env.get("SLURM_ARRAY_TASK_ID", 0))
    first, last = int(env.get("SLURM_ARRAY_TASK_MIN", 0)), int(env.get("SLURM_ARRAY_TASK_MAX", 0))
    step = int(env.get("SLURM_ARRAY_TASK_STEP", 1))
    if (last - first) // step + 1 != jobs:
        raise ValueError(
            f"an array of {jobs} jobs from {first} to {last} has gaps: it does not say which part "
            "a job is; use an array without, or --part $N/COUNT"
        )
    return (job - first) // step, jobs
