"""The wheel: it holds all files of the package and ``conf``, and works from any directory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT, SMALL

Command = Callable[..., subprocess.CompletedProcess]

#: Calls the build backend in the working directory, as pip and build do.
BUILD = "import setuptools.build_meta as backend; print(backend.build_{}({!r}))"


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build an sdist or a wheel; return the file."""
    call = [sys.executable, "-c", BUILD.format(kind, str(folder))]
    done = subprocess.run(call, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from an sdist of a copy of the checkout without its build folders."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("birdmix", "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "checkout" / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "checkout")
    sdist = build("sdist", folder / "checkout", folder)
    shutil.unpack_archive(sdist, folder, filter="data")
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)


def files_below(folder: Path, prefix: str) -> set[str]:
    """Return the files of a folder, with a prefix; without compiled ones."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {f"{prefix}/{file.relative_to(folder).as_posix()}" for file in files}


def test_the_wheel_holds_every_file_of_the_package_and_of_conf(wheel: Path):
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = files_below(ROOT / "birdmix", "birdmix") | files_below(ROOT / "conf", "birdmix/conf")
    assert names == expected


@pytest.fixture(scope="module")
def birdmix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return a function that runs the wheel's ``birdmix`` in a folder of another Hydra project.

    The wheel is in a fresh environment, with the packages of this one behind its own: torch takes
    minutes to install.
    """
    folder = tmp_path_factory.mktemp("wheel-installed")
    environment, project = folder / "environment", folder / "project"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "others.pth").write_text("\n".join(others))  # does not run their .pth files
    variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    options = ["-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "install", *options, wheel], check=True, env=variables)
    (project / "conf").mkdir(parents=True)
    (project / "conf" / "config.yaml").write_text("database: mysql\n")

    def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess:
        call = [environment / "bin" / "birdmix", *map(str, arguments)]
        done = subprocess.run(call, cwd=project, env=variables, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.mark.slow
def test_a_run_of_the_wheel_stops_resumes_and_predicts(birdmix: Command, demo: Path):
    settings = (*SMALL, f"data.root={demo}", "loggers=[]")
    stopped = birdmix(
        "train", *settings, "run_dir=run", "trainer.max_epochs=2", "trainer.max_time=1s", status=75
    )
    assert "and saved; resume with: birdmix train resume=/" in stopped.stderr
    birdmix("train", "resume=run", "trainer.max_time=null")
    out = birdmix("predict", demo / "test_soundscapes", "--bundle", "run/bundle", "--out", "out")
    assert "2 of 2 recordings predicted" in out.stdout


@pytest.mark.slow
def test_the_wheel_examines_data_and_searches_settings(birdmix: Command, demo: Path):
    out = birdmix("doctor", "data=folder", f"data.root={demo}/train_audio", "data.num_folds=2")
    assert "no problems found" in out.stdout
    settings = (*SMALL, f"data.root={demo}", "loggers=[]", "trainer.max_epochs=1")
    out = birdmix("tune", *settings, "--trials", 2, "--out", "search")
    assert "2 trials: 2 complete" in out.stdout


def test_the_wheel_reads_the_users_own_yaml(birdmix: Command, tmp_path: Path):
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix" / "mine.yaml").write_text("mixup_prob: 0.123\n")
    done = birdmix("train", "--config-dir", tmp_path, "mix=mine", "--cfg", "job")
    assert "mixup_prob: 0.123\n" in done.stdout
