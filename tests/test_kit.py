"""Offline kits: the wheels they gather, and the cell that submits by them."""

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pandas as pd
import pytest
from typer.testing import CliRunner

from birdmix.app.cli import app
from birdmix.bundle.exports import Export
from birdmix.bundle.golden import GOLDEN
from birdmix.bundle.manifest import digest, read_manifest
from birdmix.inference.engine import engines_by_speed
from birdmix.inference.export import export
from birdmix.kaggle import cell, kit, wheels
from birdmix.ownership import LIST, add_to_list

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

#: What an exported bundle listens without.
HEAVY = {"torch", "torchaudio", "torchvision", "timm", "lightning", "librosa", "hydra-core"}

runner = CliRunner()


@pytest.fixture(scope="module")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("kit") / "bundle"))
    export(folder, "onnx")
    return folder


@pytest.fixture
def made(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of one exported bundle, whose other wheels are the packages of this environment."""
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    kit.write_kit(kit.plan_kit([exported]), tmp_path / "kit")
    return tmp_path / "kit"


def run_cell(kit_folder: Path, demo: Path, place: Path, python: str | Path) -> Path:
    """Run a kit's cell in a notebook's place, as Kaggle mounts things; return the submission."""
    (place / "working").mkdir(parents=True)
    datasets, competitions = place / "input" / "datasets" / "me", place / "input" / "competitions"
    shutil.copytree(kit_folder, datasets / "birds" / "nested")
    shutil.copytree(demo, competitions / "birdclef-2026")
    (competitions / "birdclef-2025").mkdir()
    (competitions / "birdclef-2025" / "sample_submission.csv").touch()
    code = (kit_folder / "cell.py").read_text().replace("/kaggle/input", str(place / "input"))
    there = {"cwd": place / "working", "capture_output": True, "text": True}
    done = subprocess.run([python, "-P", "-c", code], **there)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "working" / "submission.csv"


def assert_heard(submission: Path, demo: Path) -> None:
    told, sample = pd.read_csv(submission), pd.read_csv(demo / "sample_submission.csv")
    assert list(told.columns) == list(sample.columns)
    assert len(told) == 24
    values = told.drop(columns="row_id")
    assert values.gt(0).all(axis=None)
    assert values.lt(1).all(axis=None)
    assert values.nunique().min() > 12  # a prior would say the same in every row


def test_a_kit_of_exported_bundles_brings_nothing_of_torch():
    for engine, library in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        names = set(wheels.closure(engine, HERE))
        assert {library, "numpy", "soundfile"} <= names
        assert not names & HEAVY


def test_a_kit_for_torch_brings_timm_but_not_what_kaggle_has():
    names = wheels.closure("torch", HERE)
    assert "timm" in names
    assert not {"torch", "torchaudio", "torchvision", "triton", "sympy"} & names.keys()
    assert not [name for name in names if name.startswith("nvidia")]


def test_requirements_are_those_of_the_kits_python_on_linux(monkeypatch: pytest.MonkeyPatch):
    required = {
        "typer": [
            'Young_One; python_version >= "3.12"',
            'old-one; python_version < "3.12"',
            'windows-one; sys_platform == "win32"',
            'loud-one; extra == "loud"',
            "with-extra[loud]",
        ],
        "with-extra": ['loud-too; extra == "loud"', 'quiet-one; extra == "quiet"'],
    }

    def installed(name: str) -> SimpleNamespace:
        return SimpleNamespace(version="1", requires=required.get(name))

    monkeypatch.setattr(wheels, "distribution", installed)
    asked = {*wheels.LISTENING, "onnxruntime"}
    assert set(wheels.closure("onnx", "3.12")) - asked == {"young-one", "with-extra", "loud-too"}
    assert set(wheels.closure("onnx", "3.11")) - asked == {"old-one", "with-extra", "loud-too"}


def test_the_own_wheel_runs_where_it_is_installed(tmp_path: Path):
    wheel = wheels.write_own_wheel(tmp_path)
    names = ZipFile(wheel).namelist()
    assert {"birdmix/mix/__init__.pyi", "birdmix/report/page.html"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", tmp_path / "there", wheel], check=True)
    code = "import birdmix, runpy, sys; print(birdmix.__file__); sys.argv[1:] = ['--version']; "
    code += "runpy.run_module('birdmix', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    call = [sys.executable, "-P", "-c", code]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    version = wheel.name.split("-")[1]
    assert done.stdout.split() == [
        str(tmp_path / "there" / "birdmix" / "__init__.py"),
        "birdmix",
        version,
    ]
    assert f"birdmix-{version}.dist-info" in os.listdir(tmp_path / "there")


def test_the_cell_finds_what_is_attached_and_submits(made: Path, demo: Path, tmp_path: Path):
    assert_heard(run_cell(made, demo, tmp_path / "kaggle", sys.executable), demo)


def test_a_kit_says_what_it_is_and_holds_nobodys_recordings(made: Path, exported: Path):
    told = json.loads((made / "kit.json").read_text())
    assert (told["engine"], told["python"], told["time_limit"]) == ("onnx", HERE, "85m")
    assert told["bundles"] == {"bundles/1": digest(made / "bundles" / "1", "onnx")}
    assert told["bundles"]["bundles/1"] == digest(exported, "onnx")
    assert (exported / GOLDEN).exists()
    assert not (made / "bundles" / "1" / GOLDEN).exists()


def test_a_kit_replaces_one_of_before_and_nothing_else(made: Path, exported: Path):
    old = made / "wheels" / "old-1-py3-none-any.whl"
    old.touch()
    add_to_list(made, "wheels/old-1-py3-none-any.whl", old)
    kit.write_kit(kit.plan_kit([exported, exported], competition="birdclef-2021"), made)
    assert not list(made.glob("wheels/old*"))
    assert sorted(each.name for each in made.glob("bundles/*")) == ["1", "2"]
    assert json.loads((made / "kit.json").read_text())["time_limit"] is None
    (made / LIST).unlink()  # as a birdmix without lists left it
    kit.check_out(made)
    (made / "kit.json").write_text('{"somebody": "else"}')
    with pytest.raises(ValueError, match=r"which birdmix did not write, .* choose a new folder"):
        kit.write_kit(kit.plan_kit([exported]), made)
    assert (made / "cell.py").exists()


def test_the_engine_is_the_fastest_that_all_bundles_have(exported: Path):
    def manifest(**milliseconds: float):
        exports = {
            engine: Export("n.onnx", "0" * 64, "f32", 1, 0.0, 1.0, 1.0, milliseconds=took)
            for engine, took in milliseconds.items()
        }
        return replace(read_manifest(exported), exports=exports)

    # 3 + 3 against 1 + 4, 3 + 3 against 4 + 4, and only one in common
    assert engines_by_speed([manifest(onnx=3, openvino=1), manifest(onnx=3, openvino=4)])[0] == (
        "openvino"
    )
    assert (
        engines_by_speed([manifest(onnx=3, openvino=4), manifest(onnx=3, openvino=4)])[0] == "onnx"
    )
    assert engines_by_speed([manifest(onnx=9, openvino=1), manifest(onnx=9)])[0] == "onnx"
    assert engines_by_speed([manifest(openvino=1), manifest(onnx=9)])[0] == "torch"


def test_a_kit_goes_on_with_the_next_engine_where_an_export_is_damaged(
    exported: Path, tmp_path: Path
):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    (copy / "network-onnx.onnx").write_bytes(b"other")
    with pytest.warns(UserWarning, match="damaged, or not .*; going on without engine=onnx"):
        assert kit.plan_kit([copy]).engine == "torch"
    with pytest.raises(ValueError, match="damaged, or not the network"):
        kit.plan_kit([copy], "onnx")


def test_nothing_but_the_bundle_gets_into_a_kit(exported: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    content = json.loads((copy / "bundle.json").read_text())
    (tmp_path / "secret").write_text("a secret")
    for file in ("../secret", str(tmp_path / "secret"), "../../../secret"):
        content["exports"]["onnx"]["file"] = file
        (copy / "bundle.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="it must be a plain file name"):
            kit.plan_kit([copy])
    shutil.copyfile(exported / "bundle.json", copy / "bundle.json")
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="model.safetensors: damaged: no safetensors file"):
        kit.plan_kit([copy])


def test_a_kit_that_leans_on_kaggles_torch_says_so_and_how_it_is_used(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    out = tmp_path / "kit"
    call = ["kit", "--engine", "torch", "--bundle", str(exported), "--out", str(out)]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    warned, _, wrote, use = done.output.splitlines()
    assert warned.startswith("warning: this kit listens by Kaggle's own torch")
    assert "1 bundle, engine torch, for birdclef-2026 within 85m" in wrote
    assert f"paste {out}/cell.py" in use
    copied = sorted(file.name for file in (out / "bundles" / "1").iterdir())
    assert copied == ["bundle.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--out {folder}",
            "holds thesis.txt, which birdmix did not write, so it is not replaced; move it away, "
            "or choose a new folder for --out",
        ),
        ("--out {new} --bundle {new}", "no bundle here"),
        ("--out {new} --engine openvino", "is not exported to it; birdmix export --bundle"),
        ("--out {new} --engine onxn", "did you mean 'onnx'?"),
        ("--out {new} --python 3.9", "python=3.9: birdmix needs Python >=3.11"),
        ("--out {new} --python 3", "python='3' is no version; write it like 3.12"),
        ("--out {new} --competition birdclef-2020", "did you mean 'birdclef-202"),
    ],
)
def test_what_cannot_be_a_kit_is_said_in_one_line(
    options: str, said: str, exported: Path, tmp_path: Path
):
    folder = tmp_path / "somebodys"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    given = options.format(folder=folder, new=tmp_path / "new").split()
    done = runner.invoke(app, ["kit", "--bundle", str(exported), *given])
    assert done.exit_code == 2
    assert said in done.output
    assert done.output.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["somebodys"]
    assert (folder / "thesis.txt").exists()


def test_wheels_that_cannot_be_fetched_are_named_and_no_kit_is_left(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without network
    plan = replace(kit.plan_kit([exported]), packages={"numpy": "2.4.6"})
    with pytest.raises(ValueError, match=r"pip download: No matching .* numpy==2.4.6; a kit needs"):
        kit.write_kit(plan, tmp_path / "kit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "said"), [(kit, r"pip install 'birdmix\[kit\]'"), (wheels, "python -m ensurepip")]
)
def test_tools_that_are_missing_are_named(
    module: object, said: str, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=said):
        kit.write_kit(kit.plan_kit([exported]), tmp_path / "kit")


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook's place, with a birdmix that keeps its arguments, leaves a file and fails."""
    for name in ("birdmix-kit", "birdclef-2021", "target/birdmix"):
        (tmp_path / name).mkdir(parents=True)
    told = {"python": HERE, "engine": "onnx", "competition": "birdclef-2021"}
    told |= {"bundles": {"bundles/1": ""}, "time_limit": None}
    (tmp_path / "birdmix-kit" / "kit.json").write_text(json.dumps(told))
    (tmp_path / "birdclef-2021" / "sample_submission.csv").touch()
    script = "import sys; open('submission.csv', 'w').write(' '.join(sys.argv[1:])); sys.exit(1)"
    (tmp_path / "target" / "birdmix" / "__main__.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cell, "INPUT", tmp_path)
    monkeypatch.setattr(cell, "install", lambda folder: str(tmp_path / "target"))
    return tmp_path


def test_a_failure_is_told_on_save_and_what_stands_counts_on_the_hidden_test(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(subprocess.CalledProcessError):
        cell.main()
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    cell.main()
    assert (notebook / "submission.csv").exists()


def test_the_cell_degrades_only_where_time_is_limited(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    cell.main()
    unlimited = (notebook / "submission.csv").read_text()
    monkeypatch.setattr(cell, "TIME_LIMIT", "20m")
    cell.main()
    limited = (notebook / "submission.csv").read_text()
    assert limited == f"{unlimited} --time-limit 20m --degrade"
    assert unlimited == (
        f"submit --data {notebook}/birdclef-2021 --out submission.csv --engine onnx "
        f"--bundle {notebook}/birdmix-kit/bundles/1"
    )


def test_the_cell_names_what_it_cannot_choose_between_and_looks_into_no_audio(
    notebook: Path,
):
    label = notebook / "birdclef-2026" / "train_audio" / "22961"
    label.mkdir(parents=True)
    (label / "sample_submission.csv").touch()
    found = cell.attached("sample_submission.csv", "birdclef-2026", "DATA")
    assert found == notebook / "birdclef-2021"
    (notebook / "birdclef-2022").mkdir()
    (notebook / "birdclef-2022" / "sample_submission.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"2021, .*2022; attach one, or set DATA"):
        cell.attached("sample_submission.csv", "birdclef-2026", "DATA")
    with pytest.raises(FileNotFoundError, match=r"hold nothing.json: none; attach one"):
        cell.attached("nothing.json", "", "KIT")


def test_the_cell_refuses_another_python():
    with pytest.raises(RuntimeError, match=rf"Python 3.1, here is {HERE}; .* --python {HERE}"):
        cell.check_here({"python": "3.1"})


@pytest.mark.parametrize(
    "change",
    [
        {"bundles": {"../../x": ""}},
        {"bundles": {"/etc": ""}},
        {"bundles": {"bundles/1/../../..": ""}},
        {"bundles": {}},
        {"bundles": 5},
        {"python": None},
        {"engine": ["onnx"]},
        {"time_limit": 85},
        {"torch": [2]},
    ],
)
def test_the_cell_takes_nothing_from_outside_of_its_kit(notebook: Path, change: dict):
    file = notebook / "birdmix-kit" / "kit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match="kit.json: damaged; make the kit again by birdmix kit"):
        cell.main()
    assert not (notebook / "submission.csv").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_a_damaged_kit_is_one_line(notebook: Path, text: str):
    (notebook / "birdmix-kit" / "kit.json").write_text(text)
    with pytest.raises(ValueError, match="kit.json: damaged; make the kit again by birdmix kit"):
        cell.main()


@pytest.mark.slow
def test_a_kit_submits_in_a_fresh_environment_without_network_or_torch(
    exported: Path, demo: Path, tmp_path: Path
):
    call = [sys.executable, "-m", "birdmix", "kit", "--bundle", exported, "--out", tmp_path / "kit"]
    subprocess.run(call, check=True)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, *tmp_path.glob("kit/wheels/*.whl")], check=True)
    torch = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in torch.stderr
    assert_heard(run_cell(tmp_path / "kit", demo, tmp_path / "kaggle", python), demo)
