"""Offline kits: their wheels, and the notebook cell that submits with them."""

import ast
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

from birdmix.bundle.export_records import ExportRecord
from birdmix.bundle.golden_storage import GOLDEN_FILE
from birdmix.bundle.manifest import bundle_digest, read_manifest
from birdmix.cli.main import app
from birdmix.engines.onnx_export import export_network
from birdmix.engines.registry import engines_by_speed
from birdmix.kaggle import notebook_cell, offline_kit, wheels
from birdmix.ownership import LIST, append_file_to_list

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

#: Packages that an exported bundle does not need.
HEAVY = {"torch", "torchaudio", "torchvision", "timm", "lightning", "librosa", "hydra-core"}

runner = CliRunner()


@pytest.fixture(scope="module")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("kit") / "bundle"))
    export_network(folder, "onnx")
    return folder


@pytest.fixture
def kit_folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of one exported bundle with no wheels but birdmix's, which run in this environment."""
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    offline_kit.write_kit(offline_kit.plan_kit([exported]), tmp_path / "kit")
    return tmp_path / "kit"


def run_cell(kit_folder: Path, demo: Path, place: Path, python: str | Path) -> Path:
    """Run a kit's cell in folders as Kaggle mounts them; return the submission."""
    (place / "working").mkdir(parents=True)
    datasets, competitions = place / "input" / "datasets" / "me", place / "input" / "competitions"
    shutil.copytree(kit_folder, datasets / "birds" / "nested")
    shutil.copytree(demo, competitions / "birdclef-2026")
    (competitions / "birdclef-2025").mkdir()
    (competitions / "birdclef-2025" / "sample_submission.csv").touch()
    code = (kit_folder / "cell.py").read_text().replace("/kaggle/input", str(place / "input"))
    options = {"cwd": place / "working", "capture_output": True, "text": True}
    done = subprocess.run([python, "-P", "-c", code], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "working" / "submission.csv"


def assert_predicted(submission: Path, demo: Path) -> None:
    table, sample = pd.read_csv(submission), pd.read_csv(demo / "sample_submission.csv")
    assert list(table.columns) == list(sample.columns)
    assert len(table) == 24
    values = table.drop(columns="row_id")
    assert values.gt(0).all(axis=None)
    assert values.lt(1).all(axis=None)
    assert values.nunique().min() > 12  # a prior is the same in every row


def test_a_kit_of_exported_bundles_has_no_package_of_torch():
    for engine, library in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        names = set(wheels.required_package_versions(engine, HERE))
        assert {library, "numpy", "soundfile"} <= names
        assert not names & HEAVY


def test_a_kit_for_torch_has_timm_but_not_what_kaggle_has():
    names = wheels.required_package_versions("torch", HERE)
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
    direct = {*wheels.PREDICTION, "onnxruntime"}
    assert set(wheels.required_package_versions("onnx", "3.12")) - direct == {
        "young-one",
        "with-extra",
        "loud-too",
    }
    assert set(wheels.required_package_versions("onnx", "3.11")) - direct == {
        "old-one",
        "with-extra",
        "loud-too",
    }


def test_a_kit_holds_every_package_that_a_submission_imports(
    exported: Path, demo: Path, tmp_path: Path
):
    options = ["submit", "--bundle", exported, "--data", demo, "--engine", "onnx"]
    options += ["--out", tmp_path / "submission.csv"]
    code = f"""
import sys
from birdmix.cli.main import app
app({[str(each) for each in options]}, standalone_mode=False)
modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "birdmix"]
print(*{{module.__file__ for module in modules}}, sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    files = [Path(line) for line in done.stdout.splitlines() if line.endswith(".py")]
    assert len(files) > 50
    imported = {name.split(".")[0] for file in files for name in imports_when_loaded(file)}
    third_party = imported - set(sys.stdlib_module_names) - {"birdmix"}
    needed = set(wheels.required_package_versions("onnx", HERE))
    assert {name.replace("_", "-") for name in third_party} <= needed


def imports_when_loaded(file: Path) -> set[str]:
    """Return the modules that a file imports at its top level."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_the_wheel_of_birdmix_runs_where_it_is_installed(tmp_path: Path):
    wheel = wheels.write_own_wheel(tmp_path)
    names = ZipFile(wheel).namelist()
    assert {"birdmix/mix/__init__.pyi", "birdmix/report/review_page.html"} <= set(names)
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


def test_the_cell_finds_the_attached_folders_and_submits(
    kit_folder: Path, demo: Path, tmp_path: Path
):
    assert_predicted(run_cell(kit_folder, demo, tmp_path / "kaggle", sys.executable), demo)


def test_a_kit_has_a_description_and_no_excerpts_of_recordings(kit_folder: Path, exported: Path):
    content = json.loads((kit_folder / "kit.json").read_text())
    assert (content["engine"], content["python"], content["time_limit"]) == ("onnx", HERE, "85m")
    assert content["bundles"] == {"bundles/1": bundle_digest(kit_folder / "bundles" / "1", "onnx")}
    assert content["bundles"]["bundles/1"] == bundle_digest(exported, "onnx")
    assert (exported / GOLDEN_FILE).exists()
    assert not (kit_folder / "bundles" / "1" / GOLDEN_FILE).exists()


def test_a_kit_replaces_an_earlier_kit_and_no_other_files(kit_folder: Path, exported: Path):
    old = kit_folder / "wheels" / "old-1-py3-none-any.whl"
    old.touch()
    append_file_to_list(kit_folder, "wheels/old-1-py3-none-any.whl", old)
    offline_kit.write_kit(
        offline_kit.plan_kit([exported, exported], competition="birdclef-2021"), kit_folder
    )
    assert not list(kit_folder.glob("wheels/old*"))
    assert sorted(each.name for each in kit_folder.glob("bundles/*")) == ["1", "2"]
    assert json.loads((kit_folder / "kit.json").read_text())["time_limit"] is None
    (kit_folder / LIST).unlink()  # as a birdmix without file lists left it
    offline_kit.check_replaceable_by_kit(kit_folder)
    (kit_folder / "kit.json").write_text('{"somebody": "else"}')
    with pytest.raises(ValueError, match=r"which birdmix did not write, .* choose a new folder"):
        offline_kit.write_kit(offline_kit.plan_kit([exported]), kit_folder)
    assert (kit_folder / "cell.py").exists()


def test_the_engine_is_the_fastest_that_all_bundles_have(exported: Path):
    def manifest(**milliseconds: float):
        exports = {
            engine: ExportRecord("n.onnx", "0" * 64, "f32", 1, 0.0, 1.0, 1.0, milliseconds=took)
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


def test_a_kit_uses_the_next_engine_where_an_export_is_damaged(exported: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    (copy / "network-onnx.onnx").write_bytes(b"other")
    with pytest.warns(UserWarning, match="damaged, or not .*; continuing without engine=onnx"):
        assert offline_kit.plan_kit([copy]).engine == "torch"
    with pytest.raises(ValueError, match="damaged, or not the network"):
        offline_kit.plan_kit([copy], "onnx")


def test_a_kit_holds_no_files_from_outside_of_the_bundle(exported: Path, tmp_path: Path):
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    content = json.loads((copy / "bundle.json").read_text())
    (tmp_path / "secret").write_text("a secret")
    for file in ("../secret", str(tmp_path / "secret"), "../../../secret"):
        content["exports"]["onnx"]["file"] = file
        (copy / "bundle.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="it must be a plain file name"):
            offline_kit.plan_kit([copy])
    shutil.copyfile(exported / "bundle.json", copy / "bundle.json")
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="model.safetensors: damaged: not a safetensors file"):
        offline_kit.plan_kit([copy])


def test_a_kit_that_uses_kaggles_torch_warns_and_the_usage_is_printed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    out = tmp_path / "kit"
    call = ["kit", "--engine", "torch", "--bundle", str(exported), "--out", str(out)]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    warned, _, wrote, use = done.output.splitlines()
    assert warned.startswith("warning: this kit uses the torch version that Kaggle has")
    assert "1 bundle, engine torch, for birdclef-2026 within 85m" in wrote
    assert f"paste {out}/cell.py" in use
    copied = sorted(file.name for file in (out / "bundles" / "1").iterdir())
    assert copied == ["bundle.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("options", "message"),
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
        ("--out {new} --python 3", "python='3' is not a version; write it like 3.12"),
        ("--out {new} --competition birdclef-2020", "did you mean 'birdclef-202"),
    ],
)
def test_an_impossible_kit_is_a_one_line_error(
    options: str, message: str, exported: Path, tmp_path: Path
):
    folder = tmp_path / "users_folder"
    folder.mkdir()
    (folder / "thesis.txt").touch()
    given = options.format(folder=folder, new=tmp_path / "new").split()
    done = runner.invoke(app, ["kit", "--bundle", str(exported), *given])
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["users_folder"]
    assert (folder / "thesis.txt").exists()


def test_wheels_that_cannot_be_downloaded_are_named_and_no_kit_is_left(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without network
    plan = replace(offline_kit.plan_kit([exported]), packages={"numpy": "2.4.6"})
    with pytest.raises(ValueError, match=r"pip download: No matching .* numpy==2.4.6; a kit needs"):
        offline_kit.write_kit(plan, tmp_path / "kit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "message"),
    [(offline_kit, r"pip install 'birdmix\[kit\]'"), (wheels, "python -m ensurepip")],
)
def test_tools_that_are_missing_are_named(
    module: object, message: str, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        offline_kit.write_kit(offline_kit.plan_kit([exported]), tmp_path / "kit")


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook's folder, with a birdmix that writes its arguments to the file and fails."""
    for name in ("birdmix-kit", "birdclef-2021", "target/birdmix"):
        (tmp_path / name).mkdir(parents=True)
    content = {"python": HERE, "engine": "onnx", "competition": "birdclef-2021"}
    content |= {"bundles": {"bundles/1": ""}, "time_limit": None}
    (tmp_path / "birdmix-kit" / "kit.json").write_text(json.dumps(content))
    (tmp_path / "birdclef-2021" / "sample_submission.csv").touch()
    script = "import sys; open('submission.csv', 'w').write(' '.join(sys.argv[1:])); sys.exit(1)"
    (tmp_path / "target" / "birdmix" / "__init__.py").touch()  # precedes others on the path
    (tmp_path / "target" / "birdmix" / "__main__.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebook_cell, "INPUT", tmp_path)
    monkeypatch.setattr(notebook_cell, "install", lambda folder: str(tmp_path / "target"))
    return tmp_path


def test_a_failure_is_an_error_on_save_and_keeps_the_file_on_the_hidden_test(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(subprocess.CalledProcessError):
        notebook_cell.main()
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    notebook_cell.main()
    assert (notebook / "submission.csv").exists()


def test_the_cell_allows_fallbacks_only_with_a_time_limit(
    notebook: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    notebook_cell.main()
    unlimited = (notebook / "submission.csv").read_text()
    monkeypatch.setattr(notebook_cell, "TIME_LIMIT", "20m")
    notebook_cell.main()
    limited = (notebook / "submission.csv").read_text()
    assert limited == f"{unlimited} --time-limit 20m --degrade"
    assert unlimited == (
        f"submit --data {notebook}/birdclef-2021 --out submission.csv --engine onnx "
        f"--bundle {notebook}/birdmix-kit/bundles/1"
    )


def test_the_cell_names_folders_that_it_cannot_choose_between_and_does_not_search_audio(
    notebook: Path,
):
    label = notebook / "birdclef-2026" / "train_audio" / "22961"
    label.mkdir(parents=True)
    (label / "sample_submission.csv").touch()
    found = notebook_cell.find_attached_folder("sample_submission.csv", "birdclef-2026", "DATA")
    assert found == notebook / "birdclef-2021"
    (notebook / "birdclef-2022").mkdir()
    (notebook / "birdclef-2022" / "sample_submission.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"2021, .*2022; attach one, or set DATA"):
        notebook_cell.find_attached_folder("sample_submission.csv", "birdclef-2026", "DATA")
    with pytest.raises(FileNotFoundError, match=r"hold nothing.json: none; attach one"):
        notebook_cell.find_attached_folder("nothing.json", "", "KIT")


def test_the_cell_refuses_another_python():
    with pytest.raises(RuntimeError, match=rf"Python 3.1, .* has {HERE}; .* --python {HERE}"):
        notebook_cell.check_versions({"python": "3.1"})


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
def test_the_cell_refuses_bundles_outside_of_its_kit(notebook: Path, change: dict):
    file = notebook / "birdmix-kit" / "kit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match="kit.json: damaged; make the kit again with birdmix kit"):
        notebook_cell.main()
    assert not (notebook / "submission.csv").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_a_damaged_kit_is_a_one_line_error(notebook: Path, text: str):
    (notebook / "birdmix-kit" / "kit.json").write_text(text)
    with pytest.raises(ValueError, match="kit.json: damaged; make the kit again with birdmix kit"):
        notebook_cell.main()


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
    assert_predicted(run_cell(tmp_path / "kit", demo, tmp_path / "kaggle", python), demo)
