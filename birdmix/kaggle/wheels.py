"""The wheels of an offline kit: birdmix, and the packages that prediction needs.

Kaggle's notebooks run Linux on x86_64. The versions are those installed on this machine, which
were tested together.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from wheel.wheelfile import WheelFile

import birdmix
from birdmix.engines.registry import EXPORTED_ENGINES
from birdmix.files import walk_files

#: Packages that prediction imports, for every engine.
PREDICTION = (
    *("lazy-loader", "numpy", "pandas", "pyarrow", "rich", "scipy", "soundfile", "soxr", "typer"),
)

#: Packages that the torch engine imports as well.
TORCH_ENGINE = ("huggingface-hub", "safetensors", "timm")

#: Packages that a kit never holds: they take gigabytes, and Kaggle has builds for its own drivers.
PREINSTALLED = ("torch", "torchaudio", "torchvision")

# Platform tags from the C library 2.28 (2018) to the oldest that wheels are made for; see PEP 600.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def check_python_supported(python: str) -> None:
    """Refuse a version of Python that birdmix does not support.

    Args:
        python: The version, such as 3.12.

    Raises:
        ValueError: If it is not supported, or not written like 3.12.
    """
    needed = _birdmix_distribution().metadata["Requires-Python"]
    parts = python.split(".")
    if len(parts) != 2 or not all(map(str.isdecimal, parts)):
        raise ValueError(f"python={python!r} is not a version; write it like 3.12")
    if not SpecifierSet(needed).contains(python):
        raise ValueError(f"python={python}: birdmix needs Python {needed}")


def required_package_versions(engine: str, python: str) -> dict[str, str]:
    """Return all packages that prediction needs, directly or not, with their installed versions.

    Args:
        engine: torch, onnx or openvino.
        python: The kit's version of Python, such as 3.12.

    Returns:
        Versions by name, sorted by name; without torch, and for an exported engine without the
        other packages of the torch engine.

    Raises:
        ValueError: If a package is not installed.
    """
    environment = _marker_environment(python)
    engine_packages = TORCH_ENGINE if engine == "torch" else (EXPORTED_ENGINES[engine].library,)
    pending = [Requirement(name) for name in (*PREDICTION, *engine_packages)]
    versions: dict[str, str] = {}
    visited = set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in PREINSTALLED or (name, *requirement.extras) in visited:
            continue
        visited.add((name, *requirement.extras))
        installed = _installed_distribution(name, python)
        versions[name] = installed.version
        pending += _requirements(installed, requirement.extras, environment)
    return dict(sorted(versions.items()))


def download(versions: Mapping[str, str], python: str, folder: Path) -> None:
    """Download wheels for Kaggle's platform with pip.

    Args:
        versions: Versions by name.
        python: Version of Python, such as 3.12.
        folder: The folder to write to.

    Raises:
        ValueError: If there is no pip, no network, or no such wheel.
    """
    if find_spec("pip") is None:
        raise ValueError("pip is not installed, and wheels need it; run python -m ensurepip")
    call = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    call += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    call += ["--implementation", "cp", "--python-version", python]
    call += [part for platform in _PLATFORMS for part in ("--platform", platform)]
    call += [f"{name}=={version}" for name, version in versions.items()]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines() or [f"exit status {done.returncode}"]
        last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise ValueError(
            f"pip download: {last.removeprefix('ERROR: ')}; a kit needs the network, and wheels of "
            f"the installed versions for Python {python} on Linux: install another version of the "
            "package, or use another --python"
        )


def write_own_wheel(folder: Path) -> Path:
    """Write a wheel of the running birdmix, also of an editable installation.

    Args:
        folder: The folder to write to.

    Returns:
        The wheel.

    Raises:
        ValueError: If birdmix is not installed.
    """
    own = _birdmix_distribution()
    package = Path(birdmix.__file__).parent
    path = folder / f"birdmix-{own.version}-py3-none-any.whl"
    with WheelFile(path, "w") as wheel:
        for name in sorted(walk_files(package)):
            if "__pycache__" not in name:
                wheel.write(str(package / name), f"{package.name}/{name}")
        for name, text in _wheel_metadata(own).items():
            wheel.writestr(f"{wheel.dist_info_path}/{name}", text)
    return path


def _birdmix_distribution() -> Distribution:
    try:
        return distribution("birdmix")
    except PackageNotFoundError as error:
        raise ValueError("birdmix is not installed; run pip install -e . in its folder") from error


def _wheel_metadata(own: Distribution) -> dict[str, str]:
    """Return the texts of a wheel's ``.dist-info`` folder by file name."""
    texts = {
        # An editable installation has PKG-INFO instead of METADATA.
        "METADATA": own.read_text("METADATA") or own.read_text("PKG-INFO"),
        "entry_points.txt": own.read_text("entry_points.txt"),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: birdmix\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    for file in own.files or ():
        if file.name == "LICENSE":
            texts["licenses/LICENSE"] = file.read_text()
    return {name: text for name, text in texts.items() if text}


def _installed_distribution(name: str, python: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise ValueError(
            f"{name} is not installed, and a kit for Python {python} needs it; run pip install "
            f"{name}"
        ) from error


def _requirements(
    installed: Distribution, extras: Iterable[str], environment: Mapping[str, str]
) -> list[Requirement]:
    """Return a package's requirements in an environment, with some of its extras."""
    return [
        requirement
        for requirement in map(Requirement, installed.requires or ())
        if requirement.marker is None
        or any(requirement.marker.evaluate({**environment, "extra": e}) for e in ("", *extras))
    ]


def _marker_environment(python: str) -> dict[str, str]:
    """Return the values of requirement markers (PEP 508) for Kaggle's Linux and a Python."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
