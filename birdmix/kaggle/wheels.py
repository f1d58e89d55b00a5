"""The wheels of an offline kit: the project's own, and what it needs to listen.

Kaggle's notebooks run Linux on x86_64. Versions are those installed here, tested together.
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
from birdmix.files import walk
from birdmix.inference.engine import EXPORTED

#: What listening imports, whatever the engine.
LISTENING = ("numpy", "pandas", "pyarrow", "rich", "scipy", "soundfile", "soxr", "typer")

#: What the torch engine imports besides ...
TORCH_ENGINE = ("huggingface-hub", "lazy-loader", "safetensors", "timm")

#: ... and what of it is never in a kit: gigabytes, which Kaggle has, built for its own drivers.
KAGGLES_OWN = ("torch", "torchaudio", "torchvision")

# From the C library of a few years ago to the oldest that wheels are made for; see PEP 600.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)


def check_python(python: str) -> None:
    """Refuse a Python that birdmix does not run on.

    Raises:
        ValueError: If it is none such, or is not written as 3.12.
    """
    needed = _own().metadata["Requires-Python"]
    parts = python.split(".")
    if len(parts) != 2 or not all(map(str.isdecimal, parts)):
        raise ValueError(f"python={python!r} is no version; write it like 3.12")
    if not SpecifierSet(needed).contains(python):
        raise ValueError(f"python={python}: birdmix needs Python {needed}")


def closure(engine: str, python: str) -> dict[str, str]:
    """Return all packages that listening needs, and the versions of them installed here.

    Args:
        engine: torch, onnx or openvino.
        python: The kit's Python, as 3.12.

    Returns:
        Versions by name, sorted by name; none of torch's for an exported engine, and never torch.

    Raises:
        ValueError: If one is not installed here.
    """
    environment = _environment(python)
    further = TORCH_ENGINE if engine == "torch" else (EXPORTED[engine],)
    waiting = [Requirement(name) for name in (*LISTENING, *further)]
    versions: dict[str, str] = {}
    walked = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in KAGGLES_OWN or (name, *requirement.extras) in walked:
            continue
        walked.add((name, *requirement.extras))
        installed = _installed(name, python)
        versions[name] = installed.version
        waiting += _required(installed, requirement.extras, environment)
    return dict(sorted(versions.items()))


def download(versions: Mapping[str, str], python: str, folder: Path) -> None:
    """Fetch wheels for Kaggle's platform.

    Args:
        versions: Versions by name.
        python: As 3.12.
        folder: Where they are written.

    Raises:
        ValueError: If there is no pip, no network, or no such wheel.
    """
    if find_spec("pip") is None:
        raise ValueError("pip is not installed, it fetches the wheels; python -m ensurepip")
    call = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    call += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    call += ["--implementation", "cp", "--python-version", python]
    call += [part for platform in _PLATFORMS for part in ("--platform", platform)]
    call += [f"{name}=={version}" for name, version in versions.items()]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).splitlines() or [f"it ended with {done.returncode}"]
        last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        raise ValueError(
            f"pip download: {last.removeprefix('ERROR: ')}; a kit needs the network, and wheels "
            f"for Python {python} on Linux of the versions installed here: install another "
            "version of the package, or take another --python"
        )


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel of the birdmix that runs, however it was installed.

    Args:
        folder: Where it is written.

    Raises:
        ValueError: If birdmix is not installed at all.
    """
    own = _own()
    package = Path(birdmix.__file__).parent
    path = folder / f"birdmix-{own.version}-py3-none-any.whl"
    with WheelFile(path, "w") as wheel:
        for name in sorted(walk(package)):
            if "__pycache__" not in name:
                wheel.write(str(package / name), f"{package.name}/{name}")
        for name, text in _own_metadata(own).items():
            wheel.writestr(f"{wheel.dist_info_path}/{name}", text)
    return path


def _own() -> Distribution:
    try:
        return distribution("birdmix")
    except PackageNotFoundError as error:
        raise ValueError("birdmix is not installed; pip install -e . in its folder") from error


def _own_metadata(own: Distribution) -> dict[str, str]:
    texts = {
        # What setuptools leaves beside a source tree has the other name.
        "METADATA": own.read_text("METADATA") or own.read_text("PKG-INFO"),
        "entry_points.txt": own.read_text("entry_points.txt"),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: birdmix\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    for file in own.files or ():
        if file.name == "LICENSE":
            texts["licenses/LICENSE"] = file.read_text()
    return {name: text for name, text in texts.items() if text}


def _installed(name: str, python: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise ValueError(
            f"{name} is not installed, and a kit for Python {python} needs it; pip install {name}"
        ) from error


def _required(
    installed: Distribution, extras: Iterable[str], environment: Mapping[str, str]
) -> list[Requirement]:
    """Return what a package requires there, with these extras of it."""
    return [
        requirement
        for requirement in map(Requirement, installed.requires or ())
        if requirement.marker is None
        or any(requirement.marker.evaluate({**environment, "extra": e}) for e in ("", *extras))
    ]


def _environment(python: str) -> dict[str, str]:
    """Return what markers are held against: Kaggle's Linux, with some Python."""
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
