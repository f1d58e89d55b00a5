"""Tables that `birdmix predict` does not write again, since nothing that they depend on changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdmix.inference.recording_predictor import RecordingPredictor
from birdmix.inference.written_tables import RUN, WrittenTables, digest_inputs
from birdmix.ownership import LIST
from tests.conftest import ROOT
from tests.test_predict import call, copy_with_manifest, predict_error, read, tables

PROBABILITIES = {"probabilities.csv", "probabilities.parquet"}
PROGRAMS = ("raven", "audacity", "birdnet", "kaleidoscope")
STANDARD = {"detections.csv", "activity.csv", "effort.csv", "recordings.csv", "failed.csv"}
LOW = ("--threshold", "0.05")
OPTIONS = (*(f"--format={name}" for name in PROGRAMS), "--probabilities", "csv")


@pytest.fixture(scope="module")
def saved(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a folder, in which ``in`` has recordings and ``out`` has all tables of them."""
    parent = tmp_path_factory.mktemp("predicted") / "now"
    rng = np.random.default_rng(0)
    for name in ("a/S_20240501_050000.wav", "b/S_20240501_060000.wav", "top.wav"):
        file = parent / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.normal(0, 0.1, 16_000 * 12), 16_000)
    (parent / "in" / "broken.wav").write_bytes(b"no sound")
    call(bundle, parent / "in", parent / "out", *LOW, "--probabilities", "parquet")
    call(bundle, parent / "in", parent / "out", *LOW, *OPTIONS)
    assert len(read(parent / "out" / "detections.csv"))
    return parent.rename(parent.with_name("saved"))


@pytest.fixture
def copied(saved: Path) -> Path:
    """The folder at its place, for a test that changes it; times of the files are kept."""
    parent = saved.with_name("now")
    shutil.rmtree(parent, ignore_errors=True)
    return shutil.copytree(saved, parent)


def predict_again(bundle: Path, parent: Path, *options: str) -> set[str]:
    """Predict again; return the tables that were written, and check them and the counts."""
    out, fresh = parent / "out", parent / "fresh"
    before = states(out)
    call(bundle, parent / "in", out, *options)
    after = states(out)
    after.pop("journal-before.sqlite", None)
    (out / "journal-before.sqlite").unlink(missing_ok=True)
    call(bundle, parent / "in", fresh, *options, *OPTIONS)
    content = tables(out)
    del content["probabilities.parquet"]  # of a former command
    assert content == tables(fresh)
    counts, expected = (json.loads((each / RUN).read_text())["counts"] for each in (out, fresh))
    assert counts | {"predicted_now": 0} == expected | {"predicted_now": 0}
    shutil.rmtree(fresh)
    return {name for name in after if after[name] != before.get(name)}


def states(out: Path) -> dict[str, tuple[int, int]]:
    """Return the number on the disk and the time of change of each table."""
    paths = (path for path in out.iterdir() if path.name not in (RUN, "journal.sqlite", LIST))
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_nothing_is_written_if_nothing_changed(bundle: Path, copied: Path):
    assert predict_again(bundle, copied, *LOW) == set()
    assert predict_again(bundle, copied, *LOW) == set()


def test_a_recording_predicted_before_costs_one_look_at_its_state(
    bundle: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
):
    stat = os.stat
    asked: list[str] = []

    def counted(path, **options):
        asked.append(os.fspath(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", counted)
    monkeypatch.setattr(RecordingPredictor, "predict", None)  # of broken.wav, the header fails
    call(bundle, copied / "in", copied / "out", *LOW)
    monkeypatch.undo()
    assert sum(str(path).endswith("050000.wav") for path in asked) == 1


def test_a_copied_output_folder_is_not_written_again(bundle: Path, copied: Path):
    for file in (copied / "out").rglob("*"):
        os.utime(file, (1, 1))
    assert predict_again(bundle, copied, *LOW) == set()


def test_another_threshold_writes_the_tables_of_detections(bundle: Path, copied: Path):
    written = predict_again(bundle, copied, "--threshold", "0.1")
    assert written == {*STANDARD, *PROGRAMS} - {"effort.csv", "failed.csv"}


def test_another_format_writes_that_alone(bundle: Path, copied: Path):
    out = copied / "out"
    call(bundle, copied / "in", copied / "some", *LOW, "--format", "raven")
    for options, name in (
        (("--format", "birdnet"), "birdnet"),
        (("--probabilities", "csv"), "probabilities.csv"),
        (("--probabilities", "parquet"), "probabilities.parquet"),
    ):
        before = states(copied / "some")
        call(bundle, copied / "in", copied / "some", *LOW, *options)
        after = states(copied / "some")
        assert {each for each in after if after[each] != before.get(each)} == {name}
    counts, expected = (
        json.loads((each / RUN).read_text())["counts"] for each in (copied / "some", out)
    )
    assert counts["detections"] == expected["detections"] > 0


def list_species(parent: Path) -> tuple[str, ...]:
    (parent / "list.txt").write_text(read(parent / "out" / "probabilities.csv").columns[6])
    return "--species", str(parent / "list.txt")


def add_recording(parent: Path) -> tuple[str, ...]:
    shutil.copy(parent / "in" / "top.wav", parent / "in" / "a" / "copy of top.wav")
    return ()


def remove_recording(parent: Path) -> tuple[str, ...]:
    (parent / "in" / "top.wav").unlink()
    return ()


def change_recording(parent: Path) -> tuple[str, ...]:
    shutil.copy(parent / "in" / "top.wav", parent / "in" / "a" / "S_20240501_050000.wav")
    return ()


def rename_folder(parent: Path) -> tuple[str, ...]:
    (parent / "in").rename(parent / "other")
    (parent / "in").symlink_to("other")
    return ()


@pytest.mark.parametrize(
    "change",
    [
        list_species,
        add_recording,
        remove_recording,
        change_recording,
        rename_folder,
        lambda _: ("--smoothing", "0.5"),
        lambda _: ("--hop", "2.5"),
    ],
)
def test_all_tables_are_written_if_predictions_or_species_changed(
    bundle: Path, copied: Path, change: Callable[[Path], tuple[str, ...]]
):
    written = predict_again(bundle, copied, *LOW, *change(copied))
    assert written == {*STANDARD, *PROBABILITIES, *PROGRAMS} - {"failed.csv"}


@pytest.mark.parametrize("option", ["--timezone", "--clock-timezone"])
def test_a_time_zone_writes_the_tables_again(bundle: Path, copied: Path, option: str):
    assert "detections.csv" in predict_again(bundle, copied, *LOW, option, "Europe/Berlin")
    # The same offset, but other changes of the clock.
    assert "detections.csv" in predict_again(bundle, copied, *LOW, option, "UTC+2")


def test_thresholds_of_the_bundle_write_the_tables_of_detections(bundle: Path, copied: Path):
    call(bundle, copied / "in", copied / "out")
    other = copy_with_manifest(bundle, copied / "other", thresholds=[0.3] * 12)
    assert "detections.csv" in predict_again(other, copied)


def test_ranks_depend_on_all_recordings(bundle: Path, copied: Path):
    options = ("--bundle", str(bundle), "--combine", "rank", "--threshold", "0.9")
    predict_again(bundle, copied, *options)
    assert predict_again(bundle, copied, *options) == set()
    (copied / "in" / "top.wav").unlink()
    assert predict_again(bundle, copied, *options) > PROBABILITIES


def test_a_new_failure_writes_the_table_of_failures_alone(bundle: Path, copied: Path):
    (copied / "in" / "also broken.wav").write_bytes(b"no sound")
    assert predict_again(bundle, copied, *LOW) == {"failed.csv"}


@pytest.mark.parametrize(
    "names",
    [
        {"detections.csv"},
        {"recordings.csv", "failed.csv"},
        {"activity.csv", "probabilities.csv"},
        {"effort.csv"},
    ],
)
def test_removed_tables_alone_are_written_again(bundle: Path, copied: Path, names: set[str]):
    for name in names:
        (copied / "out" / name).unlink()
    assert predict_again(bundle, copied, *LOW, "--probabilities", "csv") == names


def test_a_folder_without_one_of_its_files_is_written_again(bundle: Path, copied: Path):
    next((copied / "out" / "raven").rglob("*.txt")).unlink()
    (copied / "out" / "birdnet" / "birdnet.csv").unlink()
    assert predict_again(bundle, copied, *LOW) == {"raven", "birdnet"}


def test_a_former_version_in_place_of_a_table_is_written_again(bundle: Path, copied: Path):
    out = copied / "out"
    former = (out / "detections.csv").read_bytes()
    call(bundle, copied / "in", out, "--threshold", "0.5")
    assert (out / "detections.csv").read_bytes() != former
    (out / "detections.csv").write_bytes(former)
    assert predict_again(bundle, copied, "--threshold", "0.5") == {"detections.csv"}


def test_an_edited_table_is_neither_kept_nor_replaced(bundle: Path, copied: Path):
    table = copied / "out" / "detections.csv"
    edited = table.read_bytes().replace(b"0", b"1", 1)
    state = table.stat()
    table.write_bytes(edited)
    os.utime(table, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    output = predict_error(bundle, copied / "in", copied / "out", *LOW)
    assert "detections.csv: it was changed after birdmix wrote it" in output
    assert table.read_bytes() == edited


KILLED = """
import os, signal
from birdmix.cli.main import main
from birdmix.inference import predict_folder

predict_folder._write_run = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.mark.parametrize(
    "threshold",
    [*(pytest.param(each, marks=pytest.mark.slow) for each in ("0.05", "0.9")), "0.5"],
)
def test_after_a_kill_between_tables_and_run_json_no_wrong_table_is_kept(
    bundle: Path, copied: Path, threshold: str
):
    command = ["predict", "--bundle", str(bundle), str(copied / "in"), "--threshold", "0.5"]
    command = [sys.executable, "-c", KILLED, *command, "--out", str(copied / "out")]
    assert subprocess.run(command, cwd=ROOT, timeout=200).returncode == -signal.SIGKILL
    written = predict_again(bundle, copied, "--threshold", threshold)
    assert written == {*STANDARD, *PROGRAMS} - {"effort.csv", "failed.csv"}


def test_without_run_json_all_tables_are_written_again(bundle: Path, copied: Path):
    (copied / "out" / RUN).unlink()
    assert predict_again(bundle, copied, *LOW) == {*STANDARD, *PROBABILITIES, *PROGRAMS}


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: "",
        lambda run: json.dumps(run)[:-2],
        lambda run: json.dumps([run]),
        lambda run: json.dumps(run | {"tables": 1}),
        lambda run: json.dumps(run | {"tables": {"detections.csv": {"inputs": "x"}}}),
        lambda run: json.dumps(run | {"tables": run["tables"] | {"raven": {}}}),
        lambda run: json.dumps(run | {"counts": {}}),
        lambda run: json.dumps(run | {"counts": run["counts"] | {"detections": "many"}}),
        lambda run: json.dumps({name: run[name] for name in run if name != "tables"}),
        lambda run: json.dumps({name: run[name] for name in run if name != "counts"}),
    ],
)
def test_a_damaged_run_json_keeps_no_table(copied: Path, damage: Callable[[dict], str]):
    file = copied / "out" / RUN
    run = json.loads(file.read_text())
    inputs = run["tables"]["detections.csv"]["inputs"]
    assert WrittenTables(copied / "out").keep("detections.csv", inputs)
    file.write_text(damage(run))
    assert not WrittenTables(copied / "out").keep("detections.csv", inputs)


def test_digests_differ_by_value_type_and_order():
    lists = [[1, 2], [2, 1], [1.0, 2], ["1", 2], [12], [(1, 2)], [1, 2, None], [], ["1\n2"]]
    assert len({digest_inputs(values) for values in lists}) == len(lists)
    assert digest_inputs(["\udcff"]) != digest_inputs(["\\udcff"])
