"""What users own stays: every command is given folders that hold their files."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdmix.app.bundles import BEST
from birdmix.app.cli import app
from birdmix.app.run_directory import check_run_directory, claim_run_directory
from birdmix.inference.journal import Journal
from birdmix.ownership import LIST, why_foreign_folder
from birdmix.training.checkpoint import save_checkpoint
from tests.test_predict import call, read, refusal

FORMATS = ("--format", "raven", "--format", "audacity", "--format", "birdnet")
OPTIONS = (*FORMATS, "--format", "kaleidoscope", "--scores", "csv", "--threshold", "0.01")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings, one of them in a folder that is named like a format."""
    rng = np.random.default_rng(0)
    for name in ("a.wav", "raven/b.wav"):
        file = tmp_path / "recordings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.normal(0, 0.1, 32_000 * 6), 32_000)
    return tmp_path / "recordings"


@pytest.fixture(scope="module")
def predicted(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording, and all that is written of it."""
    folder = tmp_path_factory.mktemp("predicted") / "recordings"
    folder.mkdir()
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000 * 6)
    soundfile.write(folder / "a.wav", sound, 32_000)
    call(bundle, folder, folder.with_name("out"), *OPTIONS)
    return folder, folder.with_name("out")


@pytest.fixture
def again(predicted: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same in a place of its own."""
    shutil.copytree(predicted[1], tmp_path / "out")
    return predicted[0], tmp_path / "out"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def without_lists(out: Path) -> None:
    """Make a folder what copying without hidden files leaves of it."""
    for file in out.rglob(LIST):
        file.unlink()


# ---------------------------------------------------------------- predict


@pytest.mark.parametrize(
    "name",
    [
        *("detections.csv", "activity.csv", "effort.csv", "recordings.csv", "failed.csv"),
        *("run.json", "scores.csv", "journal.sqlite"),
        *("raven/b.wav", "audacity/x", "birdnet/birdnet.csv"),
    ],
)
def test_what_birdmix_did_not_write_is_refused_before_any_prediction(
    bundle: Path, folder: Path, tmp_path: Path, name: str
):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("a user's")
    said = refusal(bundle, folder, out, *OPTIONS)
    assert str(out / name.split("/")[0]) in said
    assert "birdmix did not write" in said and "move it away, or take another --out" in said
    assert snapshot(out) == {name: b"a user's"}


def test_what_is_not_asked_for_is_left_alone(bundle: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    for name in ("raven/b.wav", "birdnet/birdnet.csv", "scores.parquet", "notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("a user's")
    before = snapshot(out)
    call(bundle, folder, out)
    assert before.items() <= snapshot(out).items()
    assert len(read(out / "recordings.csv")) == 2


def test_out_may_be_the_folder_of_the_recordings(bundle: Path, folder: Path):
    before = snapshot(folder)
    assert "holds b.wav, which birdmix did not write" in refusal(bundle, folder, folder, *FORMATS)
    assert snapshot(folder) == before
    call(bundle, folder, folder, "--format", "audacity", "--threshold", "0.01")
    said = call(bundle, folder, folder, "--format", "audacity")
    assert "2 of 2 recordings were heard before" in said
    assert before.items() <= snapshot(folder).items()


def test_clips_below_the_recordings_are_not_predicted(bundle: Path, folder: Path, tmp_path: Path):
    call(bundle, folder, tmp_path / "out", "--threshold", "0.01")
    cut = ["segments", str(tmp_path / "out"), "--out", str(tmp_path / "clips")]
    assert CliRunner().invoke(app, cut).exit_code == 0
    said = call(bundle, tmp_path, tmp_path / "all")
    assert "clips: left out, since birdmix cut these clips out of other recordings" in said
    assert "heard 2 of 2" in said


def test_a_table_that_its_user_changed_is_kept(bundle: Path, again: tuple[Path, Path]):
    folder, out = again
    table = out / "raven" / "a.wav.selections.txt"
    table.write_text(table.read_text() + "a user's row\n")
    said = call(bundle, folder, out, "--threshold", "0.5")
    assert (
        "raven: it holds a.wav.selections.txt, which was changed since birdmix wrote it, so" in said
    )
    assert table.read_text().endswith("a user's row\n")
    said = refusal(bundle, folder, out, *FORMATS)
    assert "which was changed since birdmix wrote it, so it is not replaced" in said
    (out / "detections.csv").write_text("a user's")
    assert "detections.csv: it was changed since birdmix wrote it" in refusal(bundle, folder, out)


def test_tables_without_a_list_are_a_users(bundle: Path, again: tuple[Path, Path]):
    folder, out = again
    without_lists(out)
    before = snapshot(out)
    assert "detections.csv: birdmix did not write it" in refusal(bundle, folder, out)
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
    assert "holds mine.txt" in refusal(bundle, folder, out, "--format", "raven")


def test_an_out_that_is_deleted_midway_ends_in_a_line(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = Journal.keep

    def keep(journal: Journal, entry: object) -> None:
        kept(journal, entry)  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "out", ignore_errors=True)

    monkeypatch.setattr(Journal, "keep", keep)
    said = refusal(bundle, folder, tmp_path / "out")
    assert "journal.sqlite: it was removed or replaced while birdmix wrote it" in said
    assert not (tmp_path / "out").exists()


def test_journals_that_are_set_aside_are_never_replaced(bundle: Path, again: tuple[Path, Path]):
    folder, out = again
    first = (out / "journal.sqlite").read_bytes()
    for step, name in (("2.5", "journal-before.sqlite"), ("5", "journal-before-2.sqlite")):
        assert f"before: {out / name}" in call(bundle, folder, out, "--step", step)
    shutil.copyfile(out / "journal-before.sqlite", out / "journal.sqlite")
    assert first and "1 of 1 recordings were heard before" in call(bundle, folder, out)


def test_a_data_base_of_somebody_else_is_no_journal(bundle: Path, folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    with sqlite3.connect(out / "journal.sqlite") as database:
        database.execute("CREATE TABLE about (key TEXT, value TEXT)")
        database.execute("INSERT INTO about VALUES ('mine', 'dear')")
    assert "journal.sqlite: birdmix did not write it" in refusal(bundle, folder, out)
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
    (tmp_path / "notes.txt").touch()  # nobody minds
    with pytest.raises(ValueError, match="birdmix did not write.*or name another run_dir"):
        claim_run_directory(tmp_path, is_resumed=False)
    (tmp_path / name).unlink()
    claim_run_directory(tmp_path, is_resumed=False)
    check_run_directory(tmp_path, is_resumed=False)


def test_a_bundle_that_its_user_changed_is_not_replaced_by_a_resume(bundle: Path, tmp_path: Path):
    claim_run_directory(tmp_path, is_resumed=False)
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
    without_lists(tmp_path)
    claim_run_directory(tmp_path, is_resumed=True)
    check_run_directory(tmp_path, is_resumed=True)
    assert why_foreign_folder(tmp_path / "bundle") is None
    (tmp_path / "figures" / "learning_curves.png").write_text("changed")
    with pytest.raises(ValueError, match=r"learning_curves\.png: it was changed since"):
        check_run_directory(tmp_path, is_resumed=True)


def test_a_run_directory_that_is_deleted_midway_does_not_come_back(tmp_path: Path):
    with pytest.raises(OSError, match="the run directory was removed or renamed while"):
        save_checkpoint(tmp_path / "gone", {"position": {}})
    assert not (tmp_path / "gone").exists()


def test_only_what_belongs_to_a_cache_is_in_the_way_of_one(folder: Path, tmp_path: Path):
    from birdmix.loading.pcm import cached

    made = cached(tmp_path / "cache", folder / "a.wav", 16_000)
    (made.file.parent / ".mine.partial.pcm").write_text("a user's")
    made.file.write_bytes(b"torn")
    assert cached(tmp_path / "cache", folder / "a.wav", 16_000) == made
    assert (made.file.parent / ".mine.partial.pcm").exists()
