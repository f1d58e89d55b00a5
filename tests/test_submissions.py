"""`birdmix submit`: six years of submissions, valid whatever the folder and the time hold."""

import errno
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
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
from birdmix.files import write_text
from birdmix.kaggle import sheet
from birdmix.ownership import LIST, OutputFiles
from tests.recordings import read
from tests.submissions import Rows, assert_same_scores, predicted, refusal, submit, table, validated
from tests.years import Year, write_year

YEARS = pytest.mark.parametrize("competition", COMPETITIONS, ids=lambda each: each.name)


pytestmark = pytest.mark.usefixtures("bundles_opened_once")


@pytest.fixture
def data(demo: Path, tmp_path: Path) -> Year:
    """A folder of 2026 that a test may spoil."""
    return write_year(demo, BIRDCLEF_2026, tmp_path / "data")


@YEARS
def test_a_folder_of_every_year_is_what_the_demo_is(
    demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data")
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
    out: Path
    rows: Rows
    said: str


@pytest.fixture(scope="module")
def submission_of(
    bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Competition], Submission]:
    """A year's folder and the submission made of it, which tests leave as they are."""

    @functools.cache
    def made(competition: Competition) -> Submission:
        folder = tmp_path_factory.mktemp(competition.name)
        year, out = write_year(demo, competition, folder / "data"), folder / "submission.csv"
        said = submit(bundle, year.folder, out)
        return Submission(year, out, validated(year, out), said)

    return made


@pytest.fixture(scope="module", params=COMPETITIONS, ids=lambda each: each.name)
def submitted(
    request: pytest.FixtureRequest, submission_of: Callable[[Competition], Submission]
) -> Submission:
    """The submission of each year."""
    return submission_of(request.param)


@pytest.fixture(scope="module")
def good(submission_of: Callable[[Competition], Submission]) -> Submission:
    """The submission of 2026, to hold others against."""
    return submission_of(BIRDCLEF_2026)


@pytest.fixture(params=[BIRDCLEF_2021, BIRDCLEF_2022], ids=lambda each: each.name)
def asking(
    request: pytest.FixtureRequest,
    demo: Path,
    tmp_path: Path,
    submission_of: Callable[[Competition], Submission],
) -> tuple[Year, Submission]:
    """A folder of a year that asks for rows, for tests to spoil, and what it was submitted as."""
    return write_year(demo, request.param, tmp_path / "data"), submission_of(request.param)


@pytest.fixture(scope="module")
def heard(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What `birdmix predict` says of the demo's test soundscapes, by the row ids of 2026."""
    return predicted(bundle, demo, tmp_path_factory.mktemp("predicted"))


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
    done = CliRunner().invoke(app, call)
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


def nothing(competition: Competition) -> dict[str, str]:
    """What a row says of which nothing was heard, in the years that ask for decisions."""
    return {competition.column: NO_CALL if competition.value == "codes" else "False"}


def test_a_row_asked_for_twice_is_written_once(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    asked = year.folder / year.competition.asked
    asked.write_text(asked.read_text() + asked.read_text().splitlines()[2] + "\n")
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == whole.out.read_bytes()
    assert year.asked[1] in said and year.asked[1] not in whole.said


def test_rows_of_missing_soundscapes_are_counted(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    name, file = next(iter(year.soundscapes.items()))
    file.unlink()
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    rows = validated(year, tmp_path / "s.csv")
    lost = [row_id for row_id in rows if year.competition.row(row_id).soundscape == name]
    assert rows == whole.rows | dict.fromkeys(lost, nothing(year.competition))
    assert f"{len(lost)} rows of 1 soundscape" in said and name in said


def test_soundscapes_that_no_row_asks_for_are_named(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    name, file = list(year.soundscapes.items())[1]
    asked = year.folder / year.competition.asked
    lines = asked.read_text().splitlines(keepends=True)
    asked.write_text("".join(line for line in lines if not line.startswith(name)))
    shutil.copy(file, file.with_name("odd.ogg"))
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == {row_id: row for row_id, row in whole.rows.items() if name not in row_id}
    assert "no row asks for 2 soundscapes" in said and file.name in said and "odd.ogg" in said


def ask(year: Year, row_ids: Iterable[str]) -> None:
    """Ask for more rows; their other cells stay empty."""
    asked = year.folder / year.competition.asked
    commas = "," * (len(table(asked)[0]) - 1)
    asked.write_text(asked.read_text() + "".join(f"{row_id}{commas}\n" for row_id in row_ids))


def test_row_ids_that_tell_nothing_are_written_and_named(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    odd = ("nonsense", "a_b_x", "a_x_-5", "5", "größe 5")
    ask(year, odd)
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == whole.rows | dict.fromkeys(odd, nothing(year.competition))
    assert list(rows) == [*year.asked, *odd]
    assert "5 row ids" in said and "nonsense" in said


def test_where_nobody_asks_the_samples_rows_are_asked_for(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    (year.folder / year.competition.asked).unlink()
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    _, sample = table(year.sample)
    _, rows = table(tmp_path / "s.csv")
    assert rows == {row_id: whole.rows[row_id] for row_id in sample}
    assert "test.csv: no such file; the rows are the sample's" in said


def test_rows_beyond_the_end_of_a_soundscape_are_named(asking, bundle: Path, tmp_path: Path):
    year, whole = asking
    name, file = next(iter(year.soundscapes.items()))
    bird = f"_{year.codes[0]}" if year.competition.value == "decision" else ""
    odd = [f"{name}{bird}_{end}" for end in (7, 600)]
    ask(year, odd)
    said = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == whole.rows | dict.fromkeys(odd, nothing(year.competition))
    assert "2 rows of 1 soundscape beyond what could be heard there, they keep" in said
    assert file.name in said


def test_a_low_threshold_calls_all(asking, bundle: Path, tmp_path: Path):
    year, _ = asking
    submit(bundle, year.folder, tmp_path / "s.csv", "--threshold", "1e-7")
    every = {"codes": " ".join(year.codes), "decision": "True"}[year.competition.value]
    for row in validated(year, tmp_path / "s.csv").values():
        assert row == {year.competition.column: every}


# Soundscapes that are odd


@pytest.mark.parametrize("broken", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_a_broken_soundscape_keeps_priors_and_the_others_stay(
    broken: bytes, bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    name, file = next(iter(data.soundscapes.items()))
    file.write_bytes(broken)
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    rows = validated(data, tmp_path / "s.csv")
    lost = [row_id for row_id in rows if row_id.startswith(name)]
    for row_id, row in rows.items():
        if row_id in lost:
            assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)
        else:
            assert row == good.rows[row_id]
    assert file.name in said and "12 heard, 12 with the prior" in said


def test_a_soundscape_that_breaks_off_gives_what_can_be_heard(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    name, file = next(iter(data.soundscapes.items()))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    own = [row_id for row_id in rows if row_id.startswith(name)]
    assert 4 < len(own) < 8  # what its last page says that it has
    for row_id in set(rows) - {own[-1]}:
        assert_same_scores(rows[row_id], good.rows[row_id])


def test_a_soundscape_shorter_than_most_has_as_many_rows(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    file, whole = data.soundscapes.values()
    shutil.copy(whole, whole.with_stem("third"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert good.rows.keys() <= rows.keys() and len(rows) == 36
    assert "6 rows of 1 soundscape beyond what could be heard there" in said and file.name in said


def test_a_soundscape_that_lost_its_middle_is_named(bundle: Path, data: Year, tmp_path: Path):
    file = next(iter(data.soundscapes.values()))
    sound = bytearray(file.read_bytes())
    third = len(sound) // 3
    sound[third : third + 20_000] = b"lost" * 5000
    file.write_bytes(sound)
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    validated(data, tmp_path / "s.csv")
    assert f"1 soundscape odd, and heard as far as it goes: {file.name} (gap: " in said


def test_where_no_soundscape_can_be_heard_it_says_so(bundle: Path, data: Year, tmp_path: Path):
    for file in data.soundscapes.values():
        file.write_bytes(b"garbage")
    submit(bundle, data.folder, tmp_path / "s.csv", status=1)
    for row in validated(data, tmp_path / "s.csv").values():
        assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)


def test_any_name_and_folder_of_a_soundscape_will_do(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    (name, file), _ = data.soundscapes.items()
    odd = 'rain, "wind" größe'
    (file.parent / "deep").mkdir()
    file.rename(file.parent / "deep" / f"{odd}.ogg")
    submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == {row_id.replace(name, odd): row for row_id, row in good.rows.items()}


def test_two_soundscapes_of_one_name_have_one_row_each(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    file = next(iter(data.soundscapes.values()))
    (file.parent / "zz").mkdir()
    shutil.copy(file, file.parent / "zz" / file.name)
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    assert validated(data, tmp_path / "s.csv") == good.rows
    assert f"zz/{file.name}" in said


# Samples, years and settings that are refused


def test_a_sample_without_rows_will_do_where_there_are_soundscapes(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    data.sample.write_text(data.sample.read_text().splitlines()[0] + "\n")
    submit(bundle, data.folder, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == good.out.read_bytes()


@YEARS
def test_no_rows_and_no_soundscapes_are_refused(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data", hidden=False)
    for name in {competition.sample_submission, competition.asked} - {""}:
        file = year.folder / name
        file.write_text(file.read_text().splitlines()[0] + "\n")
    said = refusal(bundle, year.folder, tmp_path / "s.csv")
    assert competition.asked or competition.sample_submission in said


def test_a_missing_sample_is_refused(bundle: Path, data: Year, tmp_path: Path):
    data.sample.unlink()
    assert "sample_submission.csv: no such file" in refusal(bundle, data.folder, tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ("", "no table"),
        ("id,a\n1,0.5\n", "no column 'row_id'"),
        ("row_id\n1\n", "row_id"),
        ("row_id,a,a\n1,0.5,0.5\n", "column 'a' stands twice"),
        ("a,row_id\n0.5,r_5\n", "expected the columns row_id and one per species"),
    ],
)
def test_a_sample_that_is_none_is_refused(
    sample: str, told: str, bundle: Path, data: Year, tmp_path: Path
):
    data.sample.write_text(sample)
    said = refusal(bundle, data.folder, tmp_path / "s.csv")
    assert "sample_submission.csv: " in said and told in said


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (BIRDCLEF_2026, BIRDCLEF_2021),
        (BIRDCLEF_2021, BIRDCLEF_2026),
        (BIRDCLEF_2022, BIRDCLEF_2021),
        (BIRDCLEF_2021, BIRDCLEF_2022),
    ],
    ids=lambda each: each.name,
)
def test_another_years_sample_is_refused(
    bundle: Path, demo: Path, tmp_path: Path, written: Competition, named: Competition
):
    year = write_year(demo, written, tmp_path / "data")
    said = refusal(bundle, year.folder, tmp_path / "s.csv", "--competition", named.name)
    assert "sample_submission.csv" in said and "--competition" in said


def test_a_year_with_the_same_columns_may_be_named(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    (data.folder / "train.csv").rename(data.folder / BIRDCLEF_2023.train_table)
    submit(bundle, data.folder, tmp_path / "s.csv", "--competition", BIRDCLEF_2023.name)
    assert (tmp_path / "s.csv").read_bytes() == good.out.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--competition", "birdclef-2027"], "did you mean 'birdclef-2"),
        *((["--time-limit", each], "--time-limit: ") for each in ("soon", "0m", "-5m", "90")),
        (["--time-limit", "9s"], "--time-limit 9s: it leaves no time to listen"),
        (["--degrade"], "--time-limit"),
        (["--step", "7"], "--step 7"),
        (["--step", "0"], "--step 0"),
        (["--context", "2"], "2 s"),
        (["--pool", "max"], "--pool max"),
        (["--combine", "best"], "--combine"),
        (["--smoothing", "1"], "--smoothing 1"),
        (["--threshold", "1"], "--threshold 1"),
        (["--prior-weight", "-1"], "--prior-weight -1"),
        (["--file-scaling", "nan"], "--file-scaling nan"),
        (["--engine", "jax"], "engine"),
        (["--engine", "onnx"], "export"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_settings_that_cannot_be_are_refused_in_a_line(
    options: list[str], told: str, bundle: Path, good: Submission, tmp_path: Path
):
    assert told in refusal(bundle, good.year.folder, tmp_path / "s.csv", *options)


def test_a_folder_that_is_no_competitions_is_refused(bundle: Path, tmp_path: Path):
    for folder in (tmp_path, tmp_path / "absent"):
        said = refusal(bundle, folder, tmp_path / "s.csv")
        assert str(folder) in said and "--data" in said


def test_before_a_bundle_is_opened_a_whole_file_stands(data: Year, tmp_path: Path):
    assert "no bundle here" in refusal(tmp_path / "nowhere", data.folder, tmp_path / "s.csv")
    for row in validated(data, tmp_path / "s.csv").values():
        assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)


def test_an_earlier_file_stays_until_all_that_is_asked_for_is_there(
    bundle: Path, demo: Path, data: Year, tmp_path: Path
):
    out = tmp_path / "s.csv"
    OutputFiles(tmp_path, ("s.csv",)).claim()
    write_text(out, "earlier")
    refusal(tmp_path / "nowhere", data.folder, out)
    refusal(bundle, data.folder, out, "--engine", "onix")
    refusal(bundle, data.folder, out, "--threshold", "0.5")  # rows are no decisions
    refusal(
        bundle,
        write_year(demo, BIRDCLEF_2023, tmp_path / "2023").folder,
        out,
        "--prior-weight",
        "1",
    )
    assert out.read_text() == "earlier"


def test_a_file_that_birdmix_did_not_write_is_kept(bundle: Path, data: Year):
    sample = data.folder / "sample_submission.csv"
    before = sample.read_bytes()
    said = refusal(bundle, data.folder, sample)
    assert "sample_submission.csv: birdmix did not write it" in said
    assert "or name another file for --out" in said
    assert sample.read_bytes() == before and not (data.folder / LIST).exists()


def test_a_file_that_cannot_be_written_is_named(
    bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "s.csv"
    OutputFiles(tmp_path, ("s.csv",)).claim()
    write_text(out, "earlier")

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sheet, "write_csv", full)
    said = refusal(bundle, data.folder, out)
    assert f"{out}: it could not be written (No space left on device), and is what it was" in said
    assert out.read_text() == "earlier" and [path.name for path in tmp_path.glob("*.csv")] == [
        "s.csv"
    ]
    assert "it is no file" in refusal(bundle, data.folder, tmp_path)


def test_a_folder_that_does_not_tell_its_year_is_taken_for_the_newest(
    bundle: Path, data: Year, good: Submission, tmp_path: Path
):
    (data.folder / "taxonomy.csv").unlink()
    said = submit(bundle, data.folder, tmp_path / "s.csv")
    assert "nothing tells the year, it is taken for birdclef-2026; --competition" in said
    assert (tmp_path / "s.csv").read_bytes() == good.out.read_bytes()


def test_a_name_that_is_no_text_will_do(bundle: Path, data: Year, tmp_path: Path):
    file = next(iter(data.soundscapes.values()))
    try:
        file.rename(file.parent / os.fsdecode(b"gr\xf6\xdfe.ogg"))
    except OSError:
        pytest.skip("this file system takes no such names")
    submit(bundle, data.folder, tmp_path / "s.csv")
    assert len(table(tmp_path / "s.csv")[1]) == 24
