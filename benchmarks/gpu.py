"""Run all that needs a GPU, within minutes: tests, and the GPU part of each benchmark.

    python benchmarks/gpu.py OUT                       # everything, within 14 minutes
    python benchmarks/gpu.py OUT --only mix training --data FOLDER --limit 300

Each part is a process of its own with a time limit; its output is ``OUT/PART.txt``. A part that
fails or takes too long stops no other one. ``OUT/summary.txt`` is written after each part.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent

# Tests that need a GPU, and skip themselves without one, have it in their names; these files also
# run all their tests on a GPU if there is one.
GPU_TESTS = "gpu or cuda or test_mix_kernels or test_device_batches"

# Large enough that the loader matters: 1,920 focal recordings.
DEMO = {"recordings_per_species": 160, "validation_soundscapes": 2, "test_soundscapes": 2}


@dataclass(frozen=True)
class Part:
    """A command, with the seconds that it may take."""

    command: list[str]
    limit: float


def list_parts(data: Path, num_workers: int) -> dict[str, Part]:
    """Return all parts by name, the most important first; benchmarks without a GPU part miss.

    Args:
        data: Folder in which the demo lies, or is made.
        num_workers: Loader processes of the training.
    """
    demo = f"data.root={data / 'demo'}"
    sizes = [f"data.demo.{name}={value}" for name, value in DEMO.items()]
    make_demo = (
        "import time; from pathlib import Path; from birdmix.recordings.demo import ensure_demo; "
        "from birdmix.recordings.settings import DemoSettings; start = time.perf_counter(); "
        f"new = ensure_demo(Path({str(data / 'demo')!r}), DemoSettings(**{DEMO!r})); "
        "print('made' if new else 'kept', f'in {time.perf_counter() - start:.1f} s')"
    )
    training = [
        *("model=efficientnet_b0", "frontend=log_mel_128", "trainer.precision=bf16-mixed"),
        *("data.batch_size=128", f"data.num_workers={num_workers}", "data.memory_gib=0"),
        *(demo, *sizes, "--epochs=6", "--steps=20"),
    ]
    tests = ["-m", "pytest", "-q", "-n", "0", "--slow", "-k", GPU_TESTS, "tests"]
    commands = {
        "tests": Part(tests, 180),
        "mix": Part(["benchmarks/mix.py", "--gpu-only"], 120),
        "augment": Part(["benchmarks/augment.py", "--gpu-only"], 120),
        "prediction": Part(["benchmarks/prediction.py", "--gpu", "--rounds=2"], 180),
        "demo": Part(["-c", make_demo], 180),
        "training": Part(["benchmarks/training.py", *training], 240),
    }
    return {name: part for name, part in commands.items() if _exists(part.command)}


def _exists(command: list[str]) -> bool:
    """Return whether a benchmark exists and knows the options of its command."""
    script = ROOT / command[0]
    if script.suffix != ".py":
        return True
    options = [f'"{option}"' for option in command if option.startswith("--gpu")]
    return script.is_file() and all(each in script.read_text("utf-8") for each in options)


def run_part(part: Part, output: Path, limit: float) -> tuple[str, float]:
    """Run a part, with its output in a file.

    Args:
        part: The part.
        output: The file.
        limit: Seconds after which it and all processes that it started are killed.

    Returns:
        How it ended, and the seconds that it took.
    """
    started_at = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with output.open("w", encoding="utf-8") as stream:
        print("$ python", *part.command, file=stream, flush=True)
        process = subprocess.Popen(
            [sys.executable, *part.command],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
            ending = "ok" if status == 0 else f"FAILED, status {status}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ending = f"KILLED after {limit:.0f} s"
    return ending, time.monotonic() - started_at


def describe_machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{gpu}, {os.cpu_count()} processors, torch {torch.__version__}, {now}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--data", type=Path, help="folder of the demo; OUT if not given")
    parser.add_argument("--limit", type=float, default=840, help="seconds for all parts")
    parser.add_argument("--num-workers", type=int, default=min(12, os.cpu_count() or 1))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    parts = list_parts((arguments.data or out).resolve(), arguments.num_workers)
    if unknown := set(arguments.only or ()) - parts.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    deadline = time.monotonic() + arguments.limit
    lines = [describe_machine()]
    print(lines[0], flush=True)
    for name in arguments.only or parts:
        left = deadline - time.monotonic()
        if left < 10:
            ending, seconds = "SKIPPED, no time left", 0.0
        else:
            ending, seconds = run_part(
                parts[name], out / f"{name}.txt", min(parts[name].limit, left)
            )
        lines.append(f"{name:12} {seconds:6.0f} s   {ending}")
        print(lines[-1], flush=True)
        (out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(any(not line.endswith("ok") for line in lines[1:]))


if __name__ == "__main__":
    main()
