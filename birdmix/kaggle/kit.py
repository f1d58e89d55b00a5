"""An offline kit: all that a Kaggle notebook without network needs to submit, in one folder.

``wheels/`` (the project's own and what it needs to listen), ``bundles/1/`` and on, ``cell.py`` to
paste into a notebook, and ``kit.json``, which says what the kit is and which the cell goes by.
"""

import json
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from birdmix import __version__
from birdmix.bundle.manifest import (
    MANIFEST,
    WEIGHTS,
    Manifest,
    check_weights,
    digest,
    read_manifest,
)
from birdmix.competitions import NEWEST, Competition, competition_named
from birdmix.files import atomic_directory, check_replaceable, write_text
from birdmix.inference.engine import ENGINES, engines_by_speed, network_of
from birdmix.json_data import read_json
from birdmix.ownership import files_below, list_everything, read_list
from birdmix.suggest import check_choice

#: Says what a kit is; a folder without it is none.
KIT = "kit.json"

CELL = "cell.py"

_KIT_FILE = re.compile(
    r"kit\.json|cell\.py|wheels/[^/]+\.whl|"
    r"bundles/\d+/(bundle\.json|model\.safetensors|network-[a-z]+\.onnx)"
)

# What a kit leaves of a competition's limit to the notebook's start and the wheels.
_SPARE_MINUTES = 5


@dataclass(frozen=True)
class Kit:
    """What goes into a kit.

    Attributes:
        bundles: Folders of the bundles, and their manifests.
        engine: torch, onnx or openvino: what the kit listens with.
        python: The Python it is for, as 3.12.
        competition: Whose time limit it keeps.
        packages: Versions of the packages in it, by name.
    """

    bundles: tuple[tuple[Path, Manifest], ...]
    engine: str
    python: str
    competition: Competition
    packages: dict[str, str]

    @property
    def time_limit(self) -> str | None:
        """What submitting may take, as 85m; None where no limit is known."""
        limit = self.competition.limit_minutes
        return None if limit is None else f"{limit - _SPARE_MINUTES}m"


def plan_kit(
    bundles: Sequence[Path],
    engine: str = "auto",
    python: str | None = None,
    competition: str | None = None,
) -> Kit:
    """Decide what goes into a kit; nothing is written or fetched.

    Args:
        bundles: Folders of the bundles, which are to listen together.
        engine: torch, onnx or openvino; or auto: the export of all bundles that was measured to be
            the fastest, torch if there is none.
        python: As 3.12; None for the Python that runs.
        competition: birdclef-2021 to birdclef-2026; None for the newest.

    Raises:
        ValueError: If a bundle or its export is missing or damaged, if a name is unknown, or if a
            package is not installed.
    """
    check_choice("engine", engine, ENGINES)
    _check_extra()
    from birdmix.kaggle.wheels import check_python, closure

    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    check_python(python)
    year = competition_named(competition) if competition else NEWEST
    manifests = [read_manifest(bundle) for bundle in bundles]
    both = tuple(zip(bundles, manifests, strict=True))
    for bundle in bundles:  # they are part of what a bundle is told by
        check_weights(bundle)
    *others, last = engines_by_speed(manifests) if engine == "auto" else [engine]
    kind = next((each for each in others if _has_networks(both, each)), last)
    if kind != "torch":
        _find_networks(both, kind)
    return Kit(both, kind, python, year, closure(kind, python))


def _find_networks(bundles: Sequence[tuple[Path, Manifest]], kind: str) -> None:
    for bundle, manifest in bundles:
        network_of(bundle, manifest, kind)


def _has_networks(bundles: Sequence[tuple[Path, Manifest]], kind: str) -> bool:
    """Tell whether all bundles have a sound export for an engine; warn if one of them is not."""
    try:
        _find_networks(bundles, kind)
    except ValueError as error:
        warnings.warn(f"{error}; going on without engine={kind}", stacklevel=3)
        return False
    return True


def check_out(out: Path) -> None:
    """Refuse a place that a kit must not replace: anything but an earlier kit or an empty folder.

    Raises:
        ValueError: With the remedy.
    """
    if not _is_unlisted_kit(out):
        check_replaceable(out, "choose a new folder for --out")


def _is_unlisted_kit(out: Path) -> bool:
    """Return whether a folder is a kit alone, written by a birdmix that kept no lists."""
    if read_list(out) is not None:
        return False
    try:
        content = read_json(out / KIT)
    except (OSError, ValueError):
        return False
    is_kit = isinstance(content, dict) and {"birdmix", "bundles", "packages"} <= content.keys()
    return is_kit and all(map(_KIT_FILE.fullmatch, files_below(out)))


def write_kit(kit: Kit, out: Path) -> None:
    """Write a kit, whole or not at all; one of before is replaced.

    Raises:
        ValueError: If something else is there, or wheels cannot be had.
    """
    from birdmix.kaggle import wheels

    check_out(out)
    if _is_unlisted_kit(out):
        list_everything(out, "kit")
    with atomic_directory(out, "kit") as partial:
        (partial / "wheels").mkdir()
        wheels.download(kit.packages, kit.python, partial / "wheels")
        wheels.write_own_wheel(partial / "wheels")
        digests = {}
        for number, (bundle, manifest) in enumerate(kit.bundles, 1):
            name = f"bundles/{number}"
            _copy_bundle(bundle, manifest, partial / name, kit.engine)
            digests[name] = digest(partial / name, kit.engine)
        shutil.copyfile(Path(__file__).with_name(CELL), partial / CELL)
        write_text(partial / KIT, _described(kit, digests))


def _check_extra() -> None:
    for library in ("packaging", "wheel"):
        if find_spec(library) is None:
            raise ValueError(f"{library} is not installed; pip install 'birdmix[kit]'")


def _copy_bundle(bundle: Path, manifest: Manifest, copy: Path, engine: str) -> None:
    """Copy what the engine needs; golden windows stay, they are cut from somebody's recordings."""
    copy.mkdir(parents=True)
    exports = manifest.exports
    network = [exports[engine].file] if engine in exports else []
    for name in (MANIFEST, WEIGHTS, *network):
        shutil.copyfile(bundle / name, copy / name)


def _described(kit: Kit, digests: dict[str, str]) -> str:
    made_with = {manifest.versions.get("torch") for _, manifest in kit.bundles}
    content = {
        "birdmix": __version__,
        "python": kit.python,
        "engine": kit.engine,
        "torch": sorted(filter(None, made_with)),
        "competition": kit.competition.name,
        "time_limit": kit.time_limit,
        "bundles": digests,
        "packages": kit.packages,
    }
    return json.dumps(content, indent=2) + "\n"
