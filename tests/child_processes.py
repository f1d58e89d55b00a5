"""Runs in separate processes, as started by a shell or torchrun, which tests can kill."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from birdmix.config.schema import Config
from birdmix.experiments.run import run
from birdmix.user_errors import one_line_errors

#: Imports once, so that a run starts quickly in a clean fork.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "birdmix.experiments.run",
        "birdmix.experiments.builders",
        "timm",
        "matplotlib.pyplot",
        "audiomentations",
    ]
)

#: File with the output of the processes.
OUTPUT_FILE = "child.txt"


def start(
    config: Config,
    directory: Path,
    act: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
) -> Any:
    """Start or resume a run in its own process group; ``act`` is called there first."""
    is_resumed = (directory / "config.yaml").exists()
    settings = replace(config, resume=str(directory) if is_resumed else None)
    arguments = (settings, directory, torch.get_num_threads(), act, environment or {})
    process = FORKS.Process(target=_run_child, args=arguments)
    process.start()
    return process


def start_many(
    config: Config, directory: Path, size: int = 2, act: Callable[[], None] | None = None
) -> list[Any]:
    """Start or resume a run of several processes, with the environment variables of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
    }
    return [
        start(config, directory, act, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]


def finish(directory: Path, *processes: Any) -> None:
    """Wait for all processes of a run, and check that they succeeded."""
    for process in processes:
        process.join(120)
        assert process.exitcode == 0, (directory / OUTPUT_FILE).read_text()


def _run_child(
    config: Config,
    directory: Path,
    threads: int,
    act: Callable[[], None] | None,
    environment: dict[str, str],
) -> None:
    os.setsid()
    os.environ.update(environment)
    multiprocessing.set_start_method(
        "fork", force=True
    )  # the default in a process started by a user
    torch.set_num_threads(threads)
    output = os.open(directory / OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if act is not None:
        act()
    with one_line_errors():
        run(config, directory)
