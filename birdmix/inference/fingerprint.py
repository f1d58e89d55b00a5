"""Fingerprint of predictions: all that they depend on; a journal with another one starts again."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from birdmix import __version__
from birdmix.audio.audio_file import DECODER_VERSION
from birdmix.bundle.manifest import bundle_digest
from birdmix.engines.registry import ENGINE_NAMES, ENGINES
from birdmix.inference.recording_predictor import RecordingPredictor


def prediction_fingerprint(
    bundles: Sequence[Path], predictor: RecordingPredictor
) -> dict[str, str]:
    """Return everything that predictions depend on."""
    fingerprint = {"birdmix": __version__, "decoder": DECODER_VERSION}
    for number, (bundle, engine) in enumerate(zip(bundles, predictor.engines, strict=True), 1):
        name = engine.name.split()[0]
        fingerprint[f"bundle {number}"] = bundle_digest(bundle, name)
        package = ENGINES[name].library
        fingerprint[f"engine {number}"] = f"{engine.name} ({package} {version(package)})"
    layout = predictor.layout
    settings = asdict(predictor.settings) | {"window": layout.window, "hop": layout.hop}
    if len(bundles) == 1:
        del settings["combine"]
    if settings.get("combine") != "power":
        del settings["power"]
    return fingerprint | {name: str(value) for name, value in settings.items()}


def choose_engines(engine: str, num_bundles: int, fingerprint: dict[str, str]) -> list[str]:
    """Return each bundle's engine; with auto, the one that the journal was begun with."""
    if engine != "auto":
        return [engine] * num_bundles
    names = [
        fingerprint.get(f"engine {number + 1}", "").partition(" ")[0]
        for number in range(num_bundles)
    ]
    return [name if name in ENGINE_NAMES else engine for name in names]
