"""Offline kits, and what is told of them."""

from collections.abc import Sequence
from pathlib import Path

from birdmix.app.console import say, warn, warnings_as_lines
from birdmix.kaggle.kit import CELL, check_out, plan_kit, write_kit
from birdmix.kaggle.rows import counted


def gather_kit(
    bundles: Sequence[Path], out: Path, engine: str, python: str | None, competition: str | None
) -> None:
    """Write a kit, and say what it holds and how it is used.

    Args:
        bundles: Folders of the bundles.
        out: Folder to write.
        engine: auto, torch, onnx or openvino.
        python: The notebook's Python, as 3.12; None for the one that runs.
        competition: Whose time limit the kit keeps; None for the newest.
    """
    check_out(out)
    with warnings_as_lines():
        kit = plan_kit(bundles, engine, python, competition)
    if kit.engine == "torch":
        warn(
            "this kit listens by Kaggle's own torch, whichever that is; it is smaller and faster "
            f"if first: birdmix export --bundle {bundles[0]} --engine openvino"
        )
    say(f"fetching wheels of {len(kit.packages)} packages for Python {kit.python} on Linux")
    write_kit(kit, out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    bundles_told = counted(len(kit.bundles), "bundle")
    limit = f"within {kit.time_limit}" if kit.time_limit else "without a time limit"
    say(
        f"wrote {out}  {size:.1f} MB: {len(kit.packages) + 1} wheels, {bundles_told}, "
        f"engine {kit.engine}, for {kit.competition.name} {limit}"
    )
    say(
        f"upload {out} as a Kaggle dataset, attach it and the competition to a notebook with "
        f"internet off, and paste {out / CELL} into its cell"
    )
