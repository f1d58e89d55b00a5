"""Exports of a bundle, and what is told of them."""

from pathlib import Path

from birdmix.app.console import say
from birdmix.app.golden import keep_golden, windows_of_folder
from birdmix.bundle.golden import GOLDEN
from birdmix.bundle.manifest import WEIGHTS, claim_bundle, read_manifest
from birdmix.inference.export import export
from birdmix.ownership import refuse_foreign, why_foreign_file


def export_bundle(bundle: Path, engine: str, precision: str, windows: Path | None) -> None:
    """Add an exported network to a bundle, and say how near to torch it is.

    Args:
        bundle: The bundle's folder.
        engine: onnx or openvino.
        precision: f32, bf16 or int8.
        windows: Folder of recordings to make new golden windows of.
    """
    if windows is not None:
        manifest = read_manifest(bundle)
        claim_bundle(bundle)
        refuse_foreign(bundle / GOLDEN, why_foreign_file(bundle / GOLDEN))
        keep_golden(bundle, windows_of_folder(windows, manifest))
        say(f"wrote {bundle / GOLDEN}")
    made = export(bundle, engine, precision)
    say(
        f"{engine} {made.precision} against torch over {made.num_windows} golden windows: "
        f"probabilities differ by {made.difference:.1e} at most, ranks agree to "
        f"{made.rank_agreement:.4f}, the best class in {made.top_agreement:.0%}; "
        f"{made.milliseconds:.1f} ms for a window in one thread"
    )
    size, before = ((bundle / name).stat().st_size / 1e6 for name in (made.file, WEIGHTS))
    say(f"wrote {bundle / made.file}  {size:.1f} MB; {WEIGHTS} has {before:.1f} MB")
