"""``birdmix kit``: wheels, bundles and a notebook cell for Kaggle notebooks without internet."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.prediction_options import Bundles
from birdmix.user_errors import one_line_errors


def kit(
    bundle: Bundles,
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier kit in it is replaced.")],
    *,
    engine: Annotated[
        str, typer.Option(help="auto (the fastest export of all bundles), torch, onnx or openvino.")
    ] = "auto",
    python: Annotated[
        str | None,
        typer.Option(help="Python version of the notebook, for example 3.12. Default: this one."),
    ] = None,
    competition: Annotated[
        str | None,
        typer.Option(
            help="birdclef-2021 to birdclef-2026; sets the time limit. Default: the newest."
        ),
    ] = None,
) -> None:
    """Write what a Kaggle notebook without internet needs to submit: wheels, bundles, a cell."""
    with one_line_errors():
        from birdmix.console import log_line, warn, warnings_as_lines
        from birdmix.kaggle.offline_kit import CELL, check_replaceable_by_kit, plan_kit, write_kit
        from birdmix.messages import format_count

        check_replaceable_by_kit(out)
        with warnings_as_lines():
            plan = plan_kit(bundle, engine, python, competition)
        if plan.engine == "torch":
            warn(
                "this kit uses the torch version that Kaggle has installed; for a smaller and "
                f"faster kit, first run: birdmix export --bundle {bundle[0]} --engine openvino"
            )
        num_packages = len(plan.packages)
        log_line(f"downloading wheels of {num_packages} packages for Python {plan.python} on Linux")
        write_kit(plan, out)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
        limit = f"within {plan.time_limit}" if plan.time_limit else "without a time limit"
        log_line(
            f"wrote {out}  {size:.1f} MB: {num_packages + 1} wheels, "
            f"{format_count(len(plan.bundles), 'bundle')}, engine {plan.engine}, "
            f"for {plan.competition.name} {limit}"
        )
        log_line(
            f"upload {out} as a Kaggle dataset, attach it and the competition to a notebook with "
            f"internet off, and paste {out / CELL} into its cell"
        )
