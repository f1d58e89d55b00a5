"""Offline kit: a folder with all that a Kaggle notebook without network needs to submit.

It holds ``wheels/`` (birdmix and the packages that prediction needs), ``bundles/1/`` and following,
``cell.py`` to paste into a notebook, and ``kit.json``, which describes the kit and is read by the
cell.
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
    bundle_digest,
    check_weights_readable,
    read_manifest,
)
from birdmix.competitions import NEWEST, Competition, competition_named
from birdmix.engines.registry import ENGINE_NAMES, engines_by_speed, find_exported_network
from birdmix.files import atomic_directory, check_replaceable_folder, write_text
from birdmix.json_data import read_json
from birdmix.messages import check_choice
from birdmix.ownership import files_below, read_file_list, write_full_file_list

#: File that describes a kit.
KIT = "kit.json"

#: File to paste into a cell of a notebook.
CELL = "cell.py"

_KIT_FILE = re.compile(
    r"kit\.json|cell\.py|wheels/[^/]+\.whl|"
    r"bundles/\d+/(bundle\.json|model\.safetensors|network-[a-z]+\.onnx)"
)

# Minutes of a competition's limit that are left for the notebook's start and the wheels.
_SPARE_MINUTES = 5


@dataclass(frozen=True)
class KitContents:
    """The contents of a kit.

    Attributes:
        bundles: Folders of the bundles, and their manifests.
        engine: Engine that predicts: torch, onnx or openvino.
        python: Version of Python that the wheels are for, such as 3.12.
        competition: The competition; its time limit is used.
        packages: Versions of the packages in the kit, by name.
    """

    bundles: tuple[tuple[Path, Manifest], ...]
    engine: str
    python: str
    competition: Competition
    packages: dict[str, str]

    @property
    def time_limit(self) -> str | None:
        """Time limit of the submission, such as 85m; None where no limit is known."""
        limit = self.competition.limit_minutes
        return None if limit is None else f"{limit - _SPARE_MINUTES}m"


def plan_kit(
    bundles: Sequence[Path],
    engine: str = "auto",
    python: str | None = None,
    competition: str | None = None,
) -> KitContents:
    """Determine the contents of a kit; nothing is written or downloaded.

    Args:
        bundles: Folders of the bundles, which predict as an ensemble.
        engine: torch, onnx or openvino; or auto: the fastest export that all bundles have, by
            measured time, torch if there is none.
        python: Version of Python, such as 3.12; None for that of this process.
        competition: birdclef-2021 to birdclef-2026; None for the newest.

    Returns:
        The contents.

    Raises:
        ValueError: If a bundle or its export is missing or damaged, if a name is unknown, or if a
            package is not installed.
    """
    check_choice("engine", engine, ENGINE_NAMES)
    _check_extra()
    from birdmix.kaggle.wheels import check_python_supported, required_package_versions

    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    check_python_supported(python)
    year = competition_named(competition) if competition else NEWEST
    manifests = [read_manifest(bundle) for bundle in bundles]
    bundles_and_manifests = tuple(zip(bundles, manifests, strict=True))
    for bundle in bundles:  # the digest of a bundle includes its weights
        check_weights_readable(bundle)
    *faster, last = engines_by_speed(manifests) if engine == "auto" else [engine]
    kind = next((name for name in faster if _have_exports(bundles_and_manifests, name)), last)
    if kind != "torch":
        _check_exports(bundles_and_manifests, kind)
    return KitContents(
        bundles_and_manifests, kind, python, year, required_package_versions(kind, python)
    )


def _check_exports(bundles: Sequence[tuple[Path, Manifest]], engine: str) -> None:
    for bundle, manifest in bundles:
        find_exported_network(bundle, manifest, engine)


def _have_exports(bundles: Sequence[tuple[Path, Manifest]], engine: str) -> bool:
    """Return whether all bundles have an intact export for an engine; warn if one does not."""
    try:
        _check_exports(bundles, engine)
    except ValueError as error:
        warnings.warn(f"{error}; continuing without engine={engine}", stacklevel=3)
        return False
    return True


def check_replaceable_by_kit(out: Path) -> None:
    """Refuse a folder that a kit must not replace: it must be an earlier kit, empty or absent.

    Raises:
        ValueError: If it holds other files.
    """
    if not _is_kit_without_file_list(out):
        check_replaceable_folder(out, "choose a new folder for --out")


def _is_kit_without_file_list(out: Path) -> bool:
    """Return whether a folder holds only a kit of a birdmix version that kept no file lists."""
    if read_file_list(out) is not None:
        return False
    try:
        content = read_json(out / KIT)
    except (OSError, ValueError):
        return False
    is_kit = isinstance(content, dict) and {"birdmix", "bundles", "packages"} <= content.keys()
    return is_kit and all(map(_KIT_FILE.fullmatch, files_below(out)))


def write_kit(kit: KitContents, out: Path) -> None:
    """Write a kit atomically; an earlier kit is replaced.

    Args:
        kit: The contents.
        out: The folder to write.

    Raises:
        ValueError: If the folder holds other files, or wheels cannot be downloaded.
    """
    from birdmix.kaggle import wheels

    check_replaceable_by_kit(out)
    if _is_kit_without_file_list(out):
        write_full_file_list(out, "kit")
    with atomic_directory(out, "kit") as partial:
        (partial / "wheels").mkdir()
        wheels.download(kit.packages, kit.python, partial / "wheels")
        wheels.write_own_wheel(partial / "wheels")
        digests = {}
        for number, (bundle, manifest) in enumerate(kit.bundles, 1):
            name = f"bundles/{number}"
            _copy_bundle(bundle, manifest, partial / name, kit.engine)
            digests[name] = bundle_digest(partial / name, kit.engine)
        shutil.copyfile(Path(__file__).with_name("notebook_cell.py"), partial / CELL)
        write_text(partial / KIT, _kit_json(kit, digests))


def _check_extra() -> None:
    for library in ("packaging", "wheel"):
        if find_spec(library) is None:
            raise ValueError(f"{library} is not installed; run pip install 'birdmix[kit]'")


def _copy_bundle(bundle: Path, manifest: Manifest, copy: Path, engine: str) -> None:
    """Copy the files that the engine needs; not the golden windows, which are excerpts of audio."""
    copy.mkdir(parents=True)
    exports = manifest.exports
    network = [exports[engine].file] if engine in exports else []
    for name in (MANIFEST, WEIGHTS, *network):
        shutil.copyfile(bundle / name, copy / name)


def _kit_json(kit: KitContents, digests: dict[str, str]) -> str:
    """Return the content of ``kit.json``, given the digest of each bundle by its folder."""
    torch_versions = {manifest.versions.get("torch") for _, manifest in kit.bundles}
    content = {
        "birdmix": __version__,
        "python": kit.python,
        "engine": kit.engine,
        "torch": sorted(filter(None, torch_versions)),
        "competition": kit.competition.name,
        "time_limit": kit.time_limit,
        "bundles": digests,
        "packages": kit.packages,
    }
    return json.dumps(content, indent=2) + "\n"
