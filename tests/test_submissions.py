"""`birdmix submit`: six years of submissions, valid whatever the folder and the time hold."""

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from birdmix.app.cli import app
from birdmix.competitions import (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2023,
    BIRDCLEF_2026,
    COMPETITIONS,
    NO_CALL,
    Competition,
    competition_of,
)
from tests.recordings import read
from tests.years import Year, write_year

runner = CliRunner()

YEARS = pytest.mark.parametrize("competition", COMPETITIONS, ids=lambda each: each.name)
ASKED = pytest.mark.parametrize(
    "competition", [BIRDCLEF_2021, BIRDCLEF_2022], ids=lambda each: each.name
)

#: Rows of a table by their ids, all cells strings.
Rows = dict[str, dict[str, str]]


def submit(bundle: Path, data: Path, out: Path, *options: str, status: int = 0) -> str:
    """Run the command; return all it says in one line."""
    call = ["submit", "--bundle", str(bundle), "--data", str(data), "--out", str(out), *options]
    done = runner.invoke(app, call)
    assert done.exit_code == status and "Traceback" not in done.output, done.output
    return " ".join(done.output.split())


def refusal(bundle: Path, data: Path, out: Path, *options: str) -> str:
    """Run the command, which ends in one line; return it."""
    call = ["submit", "--bundle", str(bundle), "--data", str(data), "--out", str(out), *options]
    done = runner.invoke(app, call)
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


def table(file: Path) -> tuple[list[str], Rows]:
    """Read a table without guessing: its header, and its rows, which stand once each."""
    with file.open(encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    assert all(len(line) == len(header) for line in lines)
    rows = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}
    assert len(rows) == len(lines)
    return header, rows


def validated(year: Year, out: Path) -> Rows:
    """Return a submission's rows if Kaggle would take them: each once, its cells of its year."""
    header, rows = table(out)
    assert header == table(year.sample)[0]
    assert rows.keys() == set(year.asked)
    for row in rows.values():
        for cell in row.values():
            if year.competition.value == "probability":
                assert 0 < float(cell) < 1
            elif year.competition.value == "decision":
                assert cell in ("True", "False")
            else:
                codes = cell.split(" ")
                assert codes == [NO_CALL] or set(codes) <= set(year.codes)
                assert len(set(codes)) == len(codes)
    return rows


def edit(file: Path, change: dict[str, str]) -> None:
    """Replace what stands in a text file."""
    text = file.read_text()
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


@pytest.fixture
def data(demo: Path, tmp_path: Path) -> Year:
    """A folder of 2026 that a test may spoil."""
    return write_year(demo, BIRDCLEF_2026, tmp_path / "data")


@YEARS
@pytest.mark.parametrize("hidden", [True, False], ids=["open", "hidden"])
def test_a_folder_of_every_year_is_what_the_demo_is(
    demo: Path, tmp_path: Path, competition: Competition, hidden: bool
):
    year = write_year(demo, competition, tmp_path / "data", hidden=hidden)
    assert competition_of(year.folder) is competition
    expected, found = read("birdclef", demo), read("birdclef", year.folder)
    assert found.recordings.labels.codes == expected.recordings.labels.codes == year.codes
    assert (found.recordings.targets() == expected.recordings.targets()).all()
    assert found.recordings.groups == expected.recordings.groups
    assert [Path(path).name for path in found.recordings.paths] == [
        Path(path).name for path in expected.recordings.paths
    ]
    if not competition.soundscape_labels:
        assert found.soundscapes is None
        return
    assert (found.soundscapes.targets() == expected.soundscapes.targets()).all()
    for column in ("start", "end"):
        ours, theirs = (each.soundscapes.column(column) for each in (found, expected))
        assert (ours == theirs).all()


# A submission of every year


class Submission(NamedTuple):
    year: Year
    rows: Rows
    out: Path
    said: str


def submission(bundle: Path, demo: Path, folder: Path, competition: Competition) -> Submission:
    year = write_year(demo, competition, folder / "data")
    said = submit(bundle, year.folder, folder / "submission.csv")
    return Submission(
        year, validated(year, folder / "submission.csv"), folder / "submission.csv", said
    )


@pytest.fixture(scope="module", params=COMPETITIONS, ids=lambda each: each.name)
def submitted(
    request: pytest.FixtureRequest,
    bundle: Path,
    demo: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Submission:
    """A year's folder and its submission."""
    folder = tmp_path_factory.mktemp(request.param.name)
    return submission(bundle, demo, folder, request.param)


@pytest.fixture(scope="module")
def good(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Submission:
    """The submission of 2026, to hold others against."""
    return submission(bundle, demo, tmp_path_factory.mktemp("good"), BIRDCLEF_2026)


@pytest.fixture(scope="module")
def heard(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What `birdmix predict` says of the demo's test soundscapes, by the row ids of 2026."""
    return predicted(bundle, demo, tmp_path_factory.mktemp("predicted"))


def predicted(bundle: Path, demo: Path, out: Path, *options: str) -> Rows:
    call = ["predict", "--bundle", str(bundle), str(demo / "test_soundscapes"), "--out", str(out)]
    done = runner.invoke(app, [*call, "--scores", "csv", *options])
    assert done.exit_code == 0, done.output
    with (out / "scores.csv").open(newline="") as stream:
        return {
            f"{Path(row['path']).stem}_{float(row['end_seconds']):g}": row
            for row in csv.DictReader(stream)
        }


def as_2026(year: Year, demo: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each row asked for, the row of 2026 about the same window, and its bird if any."""
    stems = sorted(file.stem for file in (demo / "test_soundscapes").iterdir())
    stem_of = dict(zip(year.soundscapes, stems, strict=True))
    for row_id in year.asked:
        row = year.competition.row(row_id)
        yield row_id, f"{stem_of[row.soundscape]}_{row.end_seconds}", row.bird


def test_every_year_says_what_predict_hears(
    submitted: Submission, heard: Rows, demo: Path, bundle: Path
):
    manifest = json.loads((bundle / "bundle.json").read_text())
    fitted = dict(zip(manifest["labels"]["codes"], manifest["thresholds"], strict=True))
    threshold = {code: math.inf if least is None else least for code, least in fitted.items()}
    competition = submitted.year.competition
    for row_id, same, bird in as_2026(submitted.year, demo):
        expected, row = heard[same], submitted.rows[row_id]
        called = [code for code in threshold if float(expected[code]) >= threshold[code]]
        if competition.value == "codes":
            assert row[competition.column].split() == (sorted(called) or [NO_CALL])
        elif competition.value == "decision":
            assert row[competition.column] == str(bird in called)
        else:
            for code, cell in row.items():
                assert float(cell) == pytest.approx(float(expected[code]), abs=2e-6)


def test_every_years_score_is_the_one_computed_by_hand(submitted: Submission):
    competition, solution = submitted.year.competition, submitted.year.solution
    call = ["score", str(submitted.out), str(solution), "--competition", competition.name]
    done = runner.invoke(app, call)
    assert done.exit_code == 0, done.output
    by_hand = {"codes": f1_of_rows, "decision": weighted_accuracy, "probability": macro_auc}
    score = padded_cmap if competition is BIRDCLEF_2023 else by_hand[competition.value]
    expected = score(table(solution)[1], submitted.rows)
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-8)


def f1_of_rows(truth: Rows, said: Rows) -> float:
    f1 = []
    for row_id, row in truth.items():
        one, two = set(row["birds"].split()), set(said[row_id]["birds"].split())
        f1.append(2 * len(one & two) / (len(one) + len(two)))
    return float(np.mean(f1))


def weighted_accuracy(truth: Rows, said: Rows) -> float:
    right: dict[str, dict[str, list[bool]]] = {}
    for row_id, row in truth.items():
        bird = BIRDCLEF_2022.row(row_id).bird
        of_bird = right.setdefault(bird, {}).setdefault(row["target"], [])
        of_bird.append(said[row_id]["target"] == row["target"])
    return float(np.mean([np.mean([np.mean(each) for each in r.values()]) for r in right.values()]))


def columns(truth: Rows, said: Rows) -> Iterator[tuple[list[int], list[float]]]:
    for code in next(iter(truth.values())):
        yield (
            [int(row[code]) for row in truth.values()],
            [float(said[row_id][code]) for row_id in truth],
        )


def padded_cmap(truth: Rows, said: Rows) -> float:
    ones = [1] * 5
    each = [
        average_precision_score(wanted + ones, score + ones)
        for wanted, score in columns(truth, said)
    ]
    return float(np.mean(each))


def macro_auc(truth: Rows, said: Rows) -> float:
    both = [
        (wanted, score) for wanted, score in columns(truth, said) if 0 < sum(wanted) < len(wanted)
    ]
    return float(np.mean([roc_auc_score(wanted, score) for wanted, score in both]))


def test_a_submission_is_the_one_the_run_wrote(good: Submission, finished_run: Path):
    assert good.out.read_bytes() == (finished_run / "submission.csv").read_bytes()


@YEARS
def test_while_the_test_is_hidden_its_own_rows_are_written_and_the_time_is_projected(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data", hidden=False)
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    rows = validated(year, tmp_path / "s.csv")
    blank = {"codes": NO_CALL, "decision": "False"}.get(competition.value)
    for row in rows.values():
        for cell in row.values():  # two recordings of each of twelve species
            assert cell == blank if blank else float(cell) == pytest.approx(3 / 36)
    assert f"about {competition.hidden_soundscapes:,} soundscapes" in said


# Rows and columns that do not fit


def test_what_was_not_heard_has_the_class_priors(bundle: Path, demo: Path, tmp_path: Path):
    year = write_year(demo, BIRDCLEF_2026, tmp_path / "data", hidden=False)
    header, *lines = (year.folder / "train.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("rivwar1")][1:]
    (year.folder / "train.csv").write_text("".join([header, *kept]))
    submit(bundle, year.folder, tmp_path / "s.csv")
    (row, *_) = validated(year, tmp_path / "s.csv").values()
    gone = lines[1].split(",")[0] if lines[0].startswith("rivwar1") else lines[0].split(",")[0]
    shares = {"rivwar1": 1, gone: 2}
    for code, cell in row.items():
        assert float(cell) == pytest.approx(shares.get(code, 3) / (21 + 12))


def test_species_of_one_side_only_are_named(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    header, rows = table(data.sample)
    codes = ["1e5", *header[:1:-1], "007"]  # the first species is left out
    lines = [["row_id", *codes], *([row_id, *["0.1"] * len(codes)] for row_id in rows)]
    data.sample.write_text("".join(",".join(line) + "\n" for line in lines))
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    for row_id, row in validated(data, tmp_path / "s.csv").items():
        for code in ("1e5", "007"):  # nobody recorded it
            assert float(row.pop(code)) == pytest.approx(1 / (24 + len(codes)))
        assert row.items() < good.rows[row_id].items()
    assert "1e5, 007" in said and header[1] in said


@ASKED
def test_a_row_asked_for_twice_is_written_once(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data")
    asked = year.folder / competition.asked
    plain = submit(bundle, year.folder, tmp_path / "plain.csv")
    asked.write_text(asked.read_text() + asked.read_text().splitlines()[2] + "\n")
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    validated(year, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert year.asked[1] in said and year.asked[1] not in plain


@ASKED
def test_rows_of_missing_soundscapes_are_counted(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data")
    submit(bundle, year.folder, tmp_path / "whole.csv")
    name, file = next(iter(year.soundscapes.items()))
    file.unlink()
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    whole, rows = validated(year, tmp_path / "whole.csv"), validated(year, tmp_path / "s.csv")
    lost = [row_id for row_id in rows if competition.row(row_id).soundscape == name]
    for row_id in rows:
        blank = {competition.column: NO_CALL if competition.value == "codes" else "False"}
        assert rows[row_id] == (blank if row_id in lost else whole[row_id])
    assert f"{len(lost)} rows of 1 soundscape" in said and name in said


@ASKED
def test_soundscapes_that_no_row_asks_for_are_named(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data")
    submit(bundle, year.folder, tmp_path / "whole.csv")
    name, file = list(year.soundscapes.items())[1]
    asked = year.folder / competition.asked
    lines = asked.read_text().splitlines(keepends=True)
    asked.write_text("".join(line for line in lines if not line.startswith(name)))
    shutil.copy(file, file.with_name("odd.ogg"))
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    whole, rows = table(tmp_path / "whole.csv")[1], table(tmp_path / "s.csv")[1]
    assert rows == {row_id: row for row_id, row in whole.items() if not row_id.startswith(name)}
    assert "2 soundscapes that no row asks for" in said and file.name in said and "odd.ogg" in said


@ASKED
@pytest.mark.parametrize("odd", ["nonsense", "a_b_x", "a_x_-5", "5", "größe 5"])
def test_a_row_id_that_tells_nothing_is_written_and_named(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition, odd: str
):
    year = write_year(demo, competition, tmp_path / "data")
    edit(year.folder / competition.asked, {f"\n{year.asked[0]},": f"\n{odd},"})
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    rows = table(tmp_path / "s.csv")[1]
    assert list(rows) == [odd, *year.asked[1:]]
    assert rows[odd] == {competition.column: NO_CALL if competition.value == "codes" else "False"}
    assert odd in said
