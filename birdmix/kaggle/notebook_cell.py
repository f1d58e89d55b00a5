"""Submits with an offline kit: paste this into a cell of a Kaggle notebook, internet off.

Attach the kit's dataset and the competition. The notebook's own packages are not changed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

KIT: str | None = None  # folder of the kit; None: the attached one
DATA: str | None = None  # folder of the competition; None: the attached one
OUT = "submission.csv"
TIME_LIMIT: str | None = None  # such as "85m"; None: the kit's
OPTIONS: list[str] = []  # further options of `birdmix submit`, such as ["--smoothing", "0.2"]

INPUT = Path("/kaggle/input")

# Folders at which Kaggle mounts data. No pattern enters the subfolders of a competition's folder:
# they hold the audio, tens of thousands of files.
MOUNTS = ("*", "*/*", "datasets/*/*", "datasets/*/*/*")


def find_attached_folder(marker: str, name: str, constant: str) -> Path:
    """Return the attached folder that holds a file.

    Args:
        marker: Name of the file.
        name: Name of the folder to prefer if several hold the file.
        constant: Name of the constant that sets the folder, for the message.

    Raises:
        FileNotFoundError: If there is no such folder, or several to choose from.
    """
    found = [file.parent for mount in MOUNTS for file in sorted(INPUT.glob(f"{mount}/{marker}"))]
    preferred = [folder for folder in found if folder.name == name]
    if len(preferred or found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"folders below {INPUT} that hold {marker}: {listed}; attach one, or set {constant}"
        )
    return (preferred or found)[0]


def read_kit(folder: Path) -> dict:
    """Read and check a kit's ``kit.json``; bundles outside of the kit are refused.

    Raises:
        ValueError: If it is damaged.
    """
    file = folder / "kit.json"
    try:
        kit = json.loads(file.read_text(encoding="utf-8"))
        texts = [kit[name] for name in ("python", "engine", "competition")]
        texts += [*kit["bundles"], kit["time_limit"] or "", *kit.get("torch", [])]
        names = [re.fullmatch(r"bundles/[0-9]+", name) for name in kit["bundles"]]
        is_valid = all(names) and names and all(isinstance(text, str) for text in texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{file}: damaged; make the kit again with birdmix kit")
    return kit


def check_versions(kit: dict) -> None:
    """Refuse another version of Python than the kit's; print the version of torch if it is used.

    Raises:
        RuntimeError: If the notebook has another version of Python.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python != kit["python"]:
        raise RuntimeError(
            f"this kit is for Python {kit['python']}, the notebook has {python}; make it again "
            f"with birdmix kit --python {python}"
        )
    if kit["engine"] == "torch":
        torch_of_bundles = ", ".join(kit["torch"])
        print(
            f"the notebook has torch {version('torch')}, the bundles were made with "
            f"{torch_of_bundles}"
        )


def install(folder: Path) -> str:
    """Install the kit's wheels into a temporary folder, not among the notebook's outputs."""
    target = tempfile.mkdtemp(prefix="birdmix-")
    wheels = [str(wheel) for wheel in sorted(folder.glob("wheels/*.whl"))]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", target, *wheels], check=True)
    return target


def main() -> None:
    """Install the kit, and submit."""
    folder = Path(KIT) if KIT else find_attached_folder("kit.json", "birdmix-kit", "KIT")
    kit = read_kit(folder)
    check_versions(kit)
    sample = "sample_submission.csv"
    data = Path(DATA) if DATA else find_attached_folder(sample, kit["competition"], "DATA")

    # -P: folders beside the notebook are not imported as packages.
    call = [sys.executable, "-P", "-m", "birdmix", "submit", "--data", str(data), "--out", OUT]
    call += ["--engine", kit["engine"], *OPTIONS]
    for bundle in kit["bundles"]:
        call += ["--bundle", str(folder / bundle)]
    limit = TIME_LIMIT or kit["time_limit"]
    if limit:
        call += ["--time-limit", limit, "--degrade"]

    paths = [install(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    # On the hidden test an incomplete submission is better than none: the file is valid, with
    # priors where nothing was predicted, and a notebook that fails is not scored.
    if "KAGGLE_IS_COMPETITION_RERUN" not in os.environ or not Path(OUT).is_file():
        done.check_returncode()


if __name__ == "__main__":
    main()
