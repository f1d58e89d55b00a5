"""Runs in processes of their own, as a shell or torchrun would start them, that tests may kill."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from birdmix.app.errors import one_line_errors
from birdmix.app.run import run
from birdmix.app.schema import Config

#: Imports once; a run is then a clean fork away.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["birdmix.app.run", "birdmix.app.build", "timm", "matplotlib.pyplot", "audiomentations"]
)

#: What the processes say.
SAID = "child.txt"


def start(
    config: Config,
    directory: Path,
    act: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
) -> Any:
    """Start or resume a run in a process group of its own; ``act`` is called in it first."""
    begun = (directory / "config.yaml").exists()
    settings = replace(config, resume=str(directory) if begun else None)
    arguments = (settings, directory, torch.get_num_threads(), act, environment or {})
    process = FORKS.Process(target=_child, args=arguments)
    process.start()
    return process


def start_many(
    config: Config, directory: Path, size: int = 2, act: Callable[[], None] | None = None
) -> list[Any]:
    """Start or resume a run on several processes, with the variables that torchrun sets."""
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
    """Wait until all processes of a run have ended well."""
    for process in processes:
        process.join(120)
        assert process.exitcode == 0, (directory / SAID).read_text()


def _child(
    config: Config,
    directory: Path,
    threads: int,
    act: Callable[[], None] | None,
    environment: dict[str, str],
) -> None:
    os.setsid()
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts
    torch.set_num_threads(threads)
    said = os.open(directory / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if act is not None:
        act()
    with one_line_errors():
        run(config, directory)
