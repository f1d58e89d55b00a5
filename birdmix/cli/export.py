"""``birdmix export``: export of a bundle's network to ONNX or OpenVINO."""

from pathlib import Path
from typing import Annotated

import typer

from birdmix.cli.prediction_options import Bundle
from birdmix.user_errors import one_line_errors


def export(
    bundle: Bundle,
    engine: Annotated[str, typer.Option(help="onnx or openvino.")],
    precision: Annotated[
        str,
        typer.Option(
            help="f32; bf16 (openvino, on processors that support it); int8 (smaller file)."
        ),
    ] = "f32",
    windows: Annotated[
        Path | None,
        typer.Option(
            help="Folder of recordings from which new golden windows (test inputs) are taken."
        ),
    ] = None,
) -> None:
    """Add an exported network to a bundle, for prediction without torch and faster on a CPU.

    It is compared with torch on the bundle's golden windows, and not written if it differs.
    """
    with one_line_errors():
        from birdmix.bundle.golden_storage import GOLDEN_FILE
        from birdmix.bundle.manifest import WEIGHTS
        from birdmix.console import log_line
        from birdmix.engines.onnx_export import export_network
        from birdmix.inference.make_golden_windows import replace_golden_windows_from_folder
        from birdmix.messages import format_count

        if windows is not None:
            replace_golden_windows_from_folder(bundle, windows)
            log_line(f"wrote {bundle / GOLDEN_FILE}")
        exported = export_network(bundle, engine, precision)
        windows_compared = format_count(exported.num_windows, "golden window")
        log_line(
            f"{engine} {exported.precision} vs torch on {windows_compared}: "
            f"probabilities differ by at most {exported.difference:.1e}, rank correlation "
            f"{exported.rank_agreement:.4f}, same top class in {exported.top_agreement:.0%}; "
            f"{exported.milliseconds:.1f} ms per window on one thread"
        )
        size, torch_size = (
            (bundle / name).stat().st_size / 1e6 for name in (exported.file, WEIGHTS)
        )
        log_line(
            f"wrote {bundle / exported.file}  {size:.1f} MB; {WEIGHTS} has {torch_size:.1f} MB"
        )
