"""``birdmix doctor``: problems of recordings, tables, labels and splits."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner, Result

from birdmix.cli.main import app
from birdmix.recordings.data_diagnosis import Diagnosis, examine_data, examine_folder
from birdmix.recordings.settings import DataSettings
from birdmix.recordings.source_readers import read_source
from tests.recordings import write_text

RATE = 16_000


def write_song(file: Path, seed: int, seconds: float = 3.0) -> None:
    """Write chirps at random times in noise, different for each seed."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.01, int(seconds * RATE))
    t = np.arange(RATE // 5) / RATE
    for start in rng.integers(0, len(wave) - len(t), 6):
        low, slope = rng.uniform(1500, 4000), rng.uniform(-5000, 5000)
        wave[start : start + len(t)] += 0.3 * np.sin(2 * np.pi * (low + slope * t) * t)
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, wave, RATE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for at in range(4):
        write_song(tmp_path / "data" / "ab"[at % 2] / f"{at}.wav", seed=at)
    return tmp_path / "data"


def paths_by_problem(diagnosis: Diagnosis) -> dict[str, set[str]]:
    """Return the paths of the findings by problem."""
    problems: dict[str, set[str]] = {}
    for path, problem, _ in diagnosis.findings:
        problems.setdefault(problem, set()).add(path)
    return problems


def run_doctor(out: Path, *target: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *target, "--out", str(out)])


def test_a_folder_without_problems_has_no_findings(root: Path, tmp_path: Path):
    diagnosis = examine_folder(root)
    assert diagnosis.findings == [] and diagnosis.num_recordings == 4
    assert diagnosis.seconds == pytest.approx(12)
    done = run_doctor(tmp_path, str(root))
    assert done.exit_code == 0 and "no problems found" in done.output
    assert (tmp_path / "doctor.csv").read_text() == "path,problem,detail\n"
    assert not (tmp_path / "exclude.txt").exists()


def test_the_name_of_a_folder_may_contain_an_equals_sign(root: Path, tmp_path: Path):
    (tmp_path / "a=b").symlink_to(root)
    done = run_doctor(tmp_path, str(tmp_path / "a=b"))
    assert done.exit_code == 0, done.output


def test_data_that_cannot_be_read_gives_exit_code_2(tmp_path: Path):
    for target in (str(tmp_path / "nowhere"), str(tmp_path), "data=cvs", "data=csv"):
        done = run_doctor(tmp_path, target)
        assert done.exit_code == 2, done.output


def test_the_configuration_of_another_project_in_the_working_directory_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("database: mysql\n")
    monkeypatch.chdir(tmp_path)
    done = run_doctor(tmp_path / "out", "data=folder", "data.root=data", "data.num_folds=2")
    assert done.exit_code == 0, done.output


def test_the_data_may_be_described_in_a_folder_of_the_user(root: Path, tmp_path: Path):
    write_text(tmp_path / "my/data/mine.yaml", f"source: folder\nroot: {root}\nnum_folds: 2\n")
    done = run_doctor(tmp_path / "out", "data=mine", "--config-dir", str(tmp_path / "my"))
    assert done.exit_code == 0, done.output


def test_useless_recordings_are_reported_and_written_to_the_exclude_list(
    root: Path, tmp_path: Path
):
    soundfile.write(root / "a/silent.wav", np.zeros(RATE), RATE)
    write_text(root / "a/text.ogg", "no sound\n")
    (root / "b/nothing.flac").write_bytes(b"")
    wave, _ = soundfile.read(root / "a/0.wav")
    soundfile.write(root / "b/again.flac", wave, RATE)
    other, _ = soundfile.read(root / "b/1.wav")
    soundfile.write(root / "b/1.wav", np.clip(50 * other, -1, 1), RATE)
    done = run_doctor(tmp_path / "out", str(root))
    assert done.exit_code == 1
    findings = pd.read_csv(tmp_path / "out/doctor.csv")
    assert set(zip(findings["path"], findings["problem"], strict=True)) == {
        ("a/silent.wav", "silent"),
        ("a/text.ogg", "unreadable"),
        ("b/nothing.flac", "empty"),
        ("b/again.flac", "duplicate"),
        ("b/1.wav", "clipped"),
    }
    excluded = (tmp_path / "out/exclude.txt").read_text().splitlines()
    assert excluded == ["a/silent.wav", "a/text.ogg", "b/again.flac", "b/nothing.flac"]
    settings = DataSettings(source="folder", root=str(root), num_folds=2)
    settings.exclude = str(tmp_path / "out/exclude.txt")
    assert len(read_source(settings).recordings) == 4
    assert set(paths_by_problem(examine_data(settings))) == {"clipped"}


def test_sound_in_an_unsupported_format_is_a_finding(root: Path, tmp_path: Path):
    (root / "a/night.m4a").write_bytes(b"?")
    (root / "$RECYCLE.BIN").mkdir()
    (root / "$RECYCLE.BIN/old.wma").write_bytes(b"?")
    done = run_doctor(tmp_path, str(root))
    assert done.exit_code == 1
    findings = pd.read_csv(tmp_path / "doctor.csv")
    assert [tuple(row[:2]) for row in findings.to_numpy()] == [("a/night.m4a", "unsupported")]
    assert not (tmp_path / "exclude.txt").exists()
    rows = "".join(f"{name},{name[0]}\n" for name in ("a/0.wav", "b/1.wav", "a/2.wav", "b/3.wav"))
    table = write_text(root / "table.csv", f"path,labels\n{rows}")
    settings = DataSettings(source="csv", table=str(table), num_folds=2)
    assert paths_by_problem(examine_data(settings)) == {"unsupported": {"a/night.m4a"}}
    (tmp_path / "only").mkdir()
    (tmp_path / "only/b.wac").write_bytes(b"?")
    assert paths_by_problem(examine_folder(tmp_path / "only")) == {"unsupported": {"b.wac"}}


def test_all_duplicates_but_the_original_are_excluded(root: Path):
    (root / "#recycle").mkdir()
    for copy in ("#recycle/0.wav", "a/0 (1).wav", "a/Copy of 0.wav", "Backup/a/0.wav"):
        (root / copy).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(root / "a/0.wav", root / copy)
    wave, _ = soundfile.read(root / "b/1.wav")
    soundfile.write(root / "b/1.mp3", wave, RATE)  # sorted before 1.wav, but lossy
    assert examine_folder(root).exclude == [
        "Backup/a/0.wav", "a/0 (1).wav", "a/Copy of 0.wav", "b/1.mp3"
    ]  # fmt: skip


TABLE = """path,labels,group,split
a/0.wav,Turdus merula,ann,train
b/1.wav,turdus_merula,ann,validation
a/2.wav,Turdus philomelos,bob,train
a/lost.wav,Turdus philomelos,bob,train
b/same.flac,Turdus merulla,cy,validation
"""


def test_problems_of_a_table_are_reported(root: Path):
    wave, _ = soundfile.read(root / "a/0.wav")
    soundfile.write(root / "b/same.flac", wave, RATE)
    table = write_text(root / "table.csv", TABLE)
    settings = DataSettings(source="csv", table=str(table), num_folds=2)
    diagnosis = examine_data(settings)
    problems = paths_by_problem(diagnosis)
    assert problems["missing"] == {"a/lost.wav"} and problems["unlisted"] == {"b/3.wav"}
    details = {f.problem: [g.detail for g in diagnosis.findings if g.problem == f.problem]
               for f in diagnosis.findings}  # fmt: skip
    assert details["duplicate"] == [
        "same audio as a/0.wav, but different labels and group and split"
    ]
    assert details["leak"] == ["group 'ann' is in several splits: 1 train, 1 validation"]
    pairs = [detail.split(":")[0] for detail in details["label"]]
    assert pairs == [
        "'Turdus merula' and 'Turdus merulla'",
        "'Turdus merula' and 'turdus_merula'",
        "'Turdus merulla' and 'turdus_merula'",
    ]
    assert len(details["few-recordings"]) == 4
    assert diagnosis.exclude == ["a/lost.wav", "b/same.flac"]


def test_excluded_recordings_give_no_findings_and_stay_in_the_exclude_list(
    root: Path, tmp_path: Path
):
    soundfile.write(root / "a/silent.wav", np.zeros(RATE), RATE)
    rows = "".join(f"{name},{name[0]}\n" for name in ("a/0.wav", "b/1.wav", "a/2.wav", "b/3.wav"))
    table = write_text(root / "table.csv", f"path,labels\na/silent.wav,a\n{rows}")
    target = ("data=csv", f"data.table={table}", "data.num_folds=2")
    assert run_doctor(tmp_path, *target).exit_code == 1
    exclude = tmp_path / "exclude.txt"
    done = run_doctor(tmp_path, *target, f"data.exclude={exclude}")
    assert done.exit_code == 0, done.output
    (root / "b/3.wav").write_bytes(b"")
    assert run_doctor(tmp_path, *target, f"data.exclude={exclude}").exit_code == 1
    assert exclude.read_text().splitlines() == ["a/silent.wav", "b/3.wav"]


def test_labels_in_few_groups_are_reported(root: Path):
    settings = DataSettings(source="folder", root=str(root), num_folds=2, group_pattern=r"\d")
    assert paths_by_problem(examine_data(settings)) == {}
    settings.group_pattern = "wav"  # one group
    assert set(paths_by_problem(examine_data(settings))) == {"few-groups"}


def test_the_demo_has_no_problem_but_its_size(demo: Path, tmp_path: Path):
    done = run_doctor(tmp_path, "data=demo", f"data.root={demo}", "data.num_folds=2")
    findings = pd.read_csv(tmp_path / "doctor.csv")
    assert set(findings["problem"]) <= {"few-groups"}, done.output
