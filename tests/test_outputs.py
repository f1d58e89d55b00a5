"""Files of users are never replaced or removed, by any command."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.experiments.run_bundles import BEST
from birdmix.experiments.run_directory import check_run_directory, register_run_output_files
from birdmix.inference.journal import Journal
from birdmix.ownership import LIST, foreign_folder_reason
from birdmix.training.checkpoint import save_checkpoint
from tests.test_predict import call, predict_error, read

FORMATS = ("--format", "raven", "--format", "audacity", "--format", "birdnet")
OPTIONS = (*FORMATS, "--format", "kaleidoscope", "--probabilities", "csv", "--threshold", "0.01")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, one in a folder that is named like a format."""
    rng = np.random.default_rng(0)
    for name in ("a.wav", "raven/b.wav"):
        file = tmp_path / "recordings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.normal(0, 0.1, 32_000 * 6), 32_000)
    return tmp_path / "recordings"


@pytest.fixture(scope="module")
def predicted(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording, and all outputs of its prediction."""
    folder = tmp_path_factory.mktemp("predicted") / "recordings"
    folder.mkdir()
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000 * 6)
    soundfile.write(folder / "a.wav", sound, 32_000)
    call(bundle, folder, folder.with_name("out"), *OPTIONS)
    return folder, folder.with_name("out")


@pytest.fixture
def outputs_copy(predicted: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of them that a test may change."""
    shutil.copytree(predicted[1], tmp_path / "out")
    return predicted[0], tmp_path / "out"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def remove_file_lists(out: Path) -> None:
    """Remove the lists, as copying without hidden files does."""
    for file in out.rglob(LIST):
        file.unlink()


# ---------------------------------------------------------------- predict


@pytest.mark.parametrize(
    "name",
    [
        *("detections.csv", "activity.csv", "effort.csv", "recordings.csv", "failed.csv"),
        *("run.json", "probabilities.csv", "journal.sqlite"),
        *("raven/b.wav", "audacity/x", "birdnet/birdnet.csv"),
    ],
)
def test_what_birdmix_did_not_write_is_refused_before_any_prediction(
    bundle: Path, folder: Path, tmp_path: Path, name: str
):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("a user's")
    output = predict_error(bundle, folder, out, *OPTIONS)
    assert str(out / name.split("/")[0]) in output
    assert "birdmix did not write" in output and "move it away, or use another --out" in output
    assert snapshot(out) == {name: b"a user's"}


def test_formats_not_asked_for_are_not_touched(bundle: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    for name in ("raven/b.wav", "birdnet/birdnet.csv", "probabilities.parquet", "notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("a user's")
    before = snapshot(out)
    call(bundle, folder, out)
    assert before.items() <= snapshot(out).items()
    assert len(read(out / "recordings.csv")) == 2


def test_out_may_be_the_folder_of_the_recordings(bundle: Path, folder: Path):
    before = snapshot(folder)
    assert "holds b.wav, which birdmix did not write" in predict_error(
        bundle, folder, folder, *FORMATS
    )
    assert snapshot(folder) == before
    call(bundle, folder, folder, "--format", "audacity", "--threshold", "0.01")
    output = call(bundle, folder, folder, "--format", "audacity")
    assert "2 of 2 recordings were predicted before" in output
    assert before.items() <= snapshot(folder).items()


def test_clips_below_the_recordings_are_not_predicted(bundle: Path, folder: Path, tmp_path: Path):
    call(bundle, folder, tmp_path / "out", "--threshold", "0.01")
    cut = ["clips", str(tmp_path / "out"), "--out", str(tmp_path / "clips")]
    assert CliRunner().invoke(app, cut).exit_code == 0
    output = call(bundle, tmp_path, tmp_path / "all")
    assert "clips: skipped, since it holds clips that birdmix made from other recordings" in output
    assert "2 of 2 recordings predicted" in output


def test_a_table_changed_by_its_user_is_kept(bundle: Path, outputs_copy: tuple[Path, Path]):
    folder, out = outputs_copy
    table = out / "raven" / "a.wav.selections.txt"
    table.write_text(table.read_text() + "a user's row\n")
    output = call(bundle, folder, out, "--threshold", "0.5")
    assert (
        "raven: it holds a.wav.selections.txt, which was changed after birdmix wrote it, so"
        in output
    )
    assert table.read_text().endswith("a user's row\n")
    output = predict_error(bundle, folder, out, *FORMATS)
    assert "which was changed after birdmix wrote it, so it is not replaced" in output
    (out / "detections.csv").write_text("a user's")
    assert "detections.csv: it was changed after birdmix wrote it" in predict_error(
        bundle, folder, out
    )


def test_tables_without_a_list_are_taken_for_a_users(bundle: Path, outputs_copy: tuple[Path, Path]):
    folder, out = outputs_copy
    remove_file_lists(out)
    before = snapshot(out)
    assert "detections.csv: birdmix did not write it" in predict_error(bundle, folder, out)
    assert snapshot(out) == before


def test_a_format_folder_may_be_a_link(bundle: Path, folder: Path, tmp_path: Path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "raven").symlink_to(elsewhere)
    for _ in range(2):
        call(bundle, folder, out, "--format", "raven", "--threshold", "0.01")
        assert (out / "raven").is_symlink()
        assert (elsewhere / "a.wav.selections.txt").is_file()
    (elsewhere / "mine.txt").touch()
    assert "holds mine.txt" in predict_error(bundle, folder, out, "--format", "raven")


def test_an_output_folder_deleted_meanwhile_ends_with_one_line(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    add = Journal.add

    def add_and_remove(journal: Journal, *entry: Any) -> None:
        add(journal, *entry)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)

    monkeypatch.setattr(Journal, "add", add_and_remove)
    output = predict_error(bundle, folder, tmp_path / "out")
    assert "journal.sqlite: it was removed or replaced while birdmix wrote it" in output
    assert not (tmp_path / "out").exists()


def test_backups_of_journals_are_never_replaced(bundle: Path, outputs_copy: tuple[Path, Path]):
    folder, out = outputs_copy
    first = (out / "journal.sqlite").read_bytes()
    for step, name in (("2.5", "journal-before.sqlite"), ("5", "journal-before-2.sqlite")):
        assert f"the former journal: {out / name}" in call(bundle, folder, out, "--hop", step)
    shutil.copyfile(out / "journal-before.sqlite", out / "journal.sqlite")
    assert first and "1 of 1 recordings were predicted before" in call(bundle, folder, out)


def test_a_users_database_is_not_taken_for_a_journal(bundle: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    with sqlite3.connect(out / "journal.sqlite") as database:
        database.execute("CREATE TABLE about (key TEXT, value TEXT)")
        database.execute("INSERT INTO about VALUES ('mine', 'dear')")
    assert "journal.sqlite: birdmix did not write it" in predict_error(bundle, folder, out)
    with sqlite3.connect(out / "journal.sqlite") as database:
        assert database.execute("SELECT * FROM about").fetchall() == [("mine", "dear")]


# ---------------------------------------------------------------- other commands


@pytest.mark.parametrize("name", ["doctor.csv", "exclude.txt"])
def test_doctor_keeps_what_it_did_not_write(folder: Path, tmp_path: Path, name: str):
    (tmp_path / name).write_text("a user's")
    doctor = ["doctor", str(folder), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, doctor)
    assert done.exit_code == 2 and f"{name}: birdmix did not write it" in done.output
    assert (tmp_path / name).read_text() == "a user's" and not (tmp_path / LIST).exists()
    (tmp_path / name).unlink()
    for _ in range(2):
        assert CliRunner().invoke(app, doctor).exit_code == 0


def test_a_summary_keeps_what_birdmix_did_not_write(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "failed.json").write_text('{"error": "x", "overrides": {}}')
    (tmp_path / "runs.csv").write_text("a user's")
    done = CliRunner().invoke(
        app, ["summary", str(tmp_path / "run"), "--out", str(tmp_path / "runs.csv")]
    )
    assert done.exit_code == 2 and "runs.csv: birdmix did not write it" in done.output
    assert (tmp_path / "runs.csv").read_text() == "a user's"


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "metrics.csv", "metrics.json", "timings.csv", "timings.json"),
        *(
            "out_of_fold.parquet",
            "submission.csv",
            "figures/mixed_batch.png",
            "bundle/thesis",
            "best/epoch-001/thesis",
        ),
    ],
)
def test_a_new_run_keeps_what_birdmix_did_not_write(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a user's")
    (tmp_path / "notes.txt").touch()  # not in the way
    with pytest.raises(ValueError, match="birdmix did not write.*or name another run_dir"):
        register_run_output_files(tmp_path, is_resumed=False)
    (tmp_path / name).unlink()
    register_run_output_files(tmp_path, is_resumed=False)
    check_run_directory(tmp_path, is_resumed=False)


def test_a_bundle_changed_by_its_user_is_not_replaced_on_resume(bundle: Path, tmp_path: Path):
    register_run_output_files(tmp_path, is_resumed=False)
    for name in ("bundle", f"{BEST}/epoch-001"):
        shutil.copytree(bundle, tmp_path / name)
        check_run_directory(tmp_path, is_resumed=True)
        (tmp_path / name / "README.md").touch()
        with pytest.raises(ValueError, match=r"holds README\.md"):
            check_run_directory(tmp_path, is_resumed=True)
        shutil.rmtree(tmp_path / name)


def test_a_run_of_an_earlier_birdmix_is_resumed(bundle: Path, tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch\n1\n")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "learning_curves.png").touch()
    shutil.copytree(bundle, tmp_path / "bundle")
    remove_file_lists(tmp_path)
    register_run_output_files(tmp_path, is_resumed=True)
    check_run_directory(tmp_path, is_resumed=True)
    assert foreign_folder_reason(tmp_path / "bundle") is None
    (tmp_path / "figures" / "learning_curves.png").write_text("changed")
    with pytest.raises(ValueError, match=r"learning_curves\.png: it was changed after"):
        check_run_directory(tmp_path, is_resumed=True)


def test_a_run_directory_deleted_meanwhile_is_not_created_again(tmp_path: Path):
    with pytest.raises(OSError, match="the run directory was removed or renamed during the run"):
        save_checkpoint(tmp_path / "gone", {"position": {}})
    assert not (tmp_path / "gone").exists()


def test_a_users_file_beside_a_cache_is_kept(folder: Path, tmp_path: Path):
    from birdmix.loading.pcm_cache import find_or_decode_pcm_file

    made = find_or_decode_pcm_file(tmp_path / "cache", folder / "a.wav", 16_000)
    (made.file.parent / ".mine.partial.pcm").write_text("a user's")
    made.file.write_bytes(b"torn")
    assert find_or_decode_pcm_file(tmp_path / "cache", folder / "a.wav", 16_000) == made
    assert (made.file.parent / ".mine.partial.pcm").exists()
