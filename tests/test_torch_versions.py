"""torchvision and torchaudio that do not fit torch: one line with the remedy, or a warning."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from birdmix.torch_versions import describe_unfit_package
from birdmix.user_errors import one_line_errors
from tests.conftest import ROOT, SMALL


def install_unfit(package: str, version: str, error: str, folder: Path) -> dict[str, str]:
    """Make a package whose import raises an error; return the environment that has it first."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(f"raise {error}\n")
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def run(
    command: list[object], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess:
    call = [sys.executable, *map(str, command)]
    return subprocess.run(call, env=environment, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "silence.wav"
    soundfile.write(file, [0.0] * 64_000, 32_000)
    return file


@pytest.mark.parametrize(
    ("package", "version", "torch_version", "remedy"),
    [
        ("torchvision", "0.26.0", "2.8.0", "torch==2.8.0 torchvision~=0.23.0 torchaudio~=2.8.0"),
        ("torchaudio", "2.11.0", "2.6.0", "torch==2.6.0 torchvision~=0.21.0 torchaudio~=2.6.0"),
        (
            "torchvision",
            "0.26.0",
            "2.11.0+cpu",
            "--force-reinstall torch==2.11.0 torchvision~=0.26.0 torchaudio~=2.11.0",
        ),
        ("torchvision", "0.26.0", "2.15.0", "--upgrade torch==2.15.0 torchvision"),
    ],
)
def test_the_remedy_installs_what_fits_the_installed_torch(
    package: str,
    version: str,
    torch_version: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
):
    versions = {package: version, "torch": torch_version}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert describe_unfit_package(package, RuntimeError("no operator\nnms")) == (
        f"{package} {version} does not fit torch {torch_version} (no operator); "
        f"run: pip install {remedy}"
    )


def test_there_is_no_remedy_for_a_torch_without_torchaudio(monkeypatch: pytest.MonkeyPatch):
    versions = {"torchaudio": "2.11.0", "torch": "2.15.0"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    message = describe_unfit_package("torchaudio", OSError("undefined symbol"))
    assert message.endswith("(undefined symbol); there is none for torch 2.15.0")


def test_training_and_prediction_with_an_unfit_torchvision_end_in_one_line(
    demo: Path, bundle: Path, recording: Path, tmp_path: Path
):
    error = "RuntimeError('operator torchvision::nms does not exist')"
    environment = install_unfit("torchvision", "0.5.0", error, tmp_path)
    training = [ROOT / "train.py", *SMALL, f"data.root={demo}", "run_dir=run"]
    prediction = ["-m", "birdmix", "predict", "--bundle", bundle, recording, "--out", "out"]
    for command in (training, [*prediction, "--engine", "torch"]):
        done = run(command, environment, tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(
            f"error: torchvision 0.5.0 does not fit torch {importlib.metadata.version('torch')} "
            "(operator torchvision::nms does not exist); run: pip install "
        )


def test_errors_of_torch_that_no_import_raised_keep_their_traceback():
    with pytest.raises(RuntimeError), one_line_errors():
        torch.zeros(2) @ torch.zeros(3)


@pytest.mark.slow
def test_training_and_prediction_work_without_torchaudio(
    demo: Path, recording: Path, tmp_path: Path
):
    error = "OSError('undefined symbol')"
    environment = install_unfit("torchaudio", "2.0.0", error, tmp_path)
    training = [ROOT / "train.py", *SMALL, f"data.root={demo}", "trainer.max_epochs=1"]
    prediction = ["-m", "birdmix", "predict", "--bundle", "run/bundle", recording, "--out", "out"]
    for command in ([*training, "run_dir=run"], [*prediction, "--engine", "torch"]):
        done = run(command, environment, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("warning: torchaudio 2.0.0 does not fit torch") == 1
