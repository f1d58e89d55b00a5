"""`birdmix submit`: valid submissions for six years' competitions, also from faulty folders."""

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

from birdmix.cli.main import app
from birdmix.competitions import (
    BIRDCLEF_2021,
    BIRDCLEF_2022,
    BIRDCLEF_2023,
    BIRDCLEF_2026,
    COMPETITIONS,
    NO_CALL,
    Competition,
    competition_of_folder,
)
from birdmix.files import write_text
from birdmix.kaggle import submission_table
from birdmix.ownership import LIST, OutputFiles
from tests.recordings import read
from tests.submissions import (
    Rows,
    assert_same_scores,
    predict_rows,
    read_valid_rows,
    submit,
    submit_error,
    table,
)
from tests.years import Year, write_year

YEARS = pytest.mark.parametrize("competition", COMPETITIONS, ids=lambda each: each.name)


pytestmark = pytest.mark.usefixtures("cached_bundles")


@pytest.fixture
def data(demo: Path, tmp_path: Path) -> Year:
    """A folder of 2026 that a test may change."""
    return write_year(demo, BIRDCLEF_2026, tmp_path / "data")


@YEARS
def test_a_folder_of_every_year_is_read_as_the_demo_is(
    demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data")
    assert competition_of_folder(year.folder) is competition
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
        times, expected_times = (
            each.soundscapes.numeric_column(column) for each in (found, expected)
        )
        assert (times == expected_times).all()


# A submission of every year


class Submission(NamedTuple):
    year: Year
    out: Path
    rows: Rows
    output: str


@pytest.fixture(scope="module")
def submission_of(
    bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Competition], Submission]:
    """A year's folder and its submission, which tests must not change."""

    @functools.cache
    def make(competition: Competition) -> Submission:
        folder = tmp_path_factory.mktemp(competition.name)
        year, out = write_year(demo, competition, folder / "data"), folder / "submission.csv"
        output = submit(bundle, year.folder, out)
        return Submission(year, out, read_valid_rows(year, out), output)

    return make


@pytest.fixture(scope="module", params=COMPETITIONS, ids=lambda each: each.name)
def year_submission(
    request: pytest.FixtureRequest, submission_of: Callable[[Competition], Submission]
) -> Submission:
    """The submission of each year."""
    return submission_of(request.param)


@pytest.fixture(scope="module")
def submission_2026(submission_of: Callable[[Competition], Submission]) -> Submission:
    """The submission of 2026, to compare others with."""
    return submission_of(BIRDCLEF_2026)


@pytest.fixture(params=[BIRDCLEF_2021, BIRDCLEF_2022], ids=lambda each: each.name)
def year_with_rows_table(
    request: pytest.FixtureRequest,
    demo: Path,
    tmp_path: Path,
    submission_of: Callable[[Competition], Submission],
) -> tuple[Year, Submission]:
    """A folder of a year with a table of requested rows, which tests may change; its submission."""
    return write_year(demo, request.param, tmp_path / "data"), submission_of(request.param)


@pytest.fixture(scope="module")
def predictions(bundle: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The output of `birdmix predict` for the demo's test soundscapes, by the row ids of 2026."""
    return predict_rows(bundle, demo, tmp_path_factory.mktemp("predicted"))


def row_ids_of_2026(year: Year, demo: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each requested row id, that of 2026 for the same window, and its bird if any."""
    stems = sorted(file.stem for file in (demo / "test_soundscapes").iterdir())
    stem_of = dict(zip(year.soundscapes, stems, strict=True))
    for row_id in year.row_ids:
        row = year.competition.parse_row_id(row_id)
        yield row_id, f"{stem_of[row.soundscape]}_{row.end_seconds}", row.bird


def test_every_years_submission_equals_the_output_of_predict(
    year_submission: Submission, predictions: Rows, demo: Path, bundle: Path
):
    manifest = json.loads((bundle / "bundle.json").read_text())
    fitted = dict(zip(manifest["labels"]["codes"], manifest["thresholds"], strict=True))
    threshold = {code: math.inf if least is None else least for code, least in fitted.items()}
    competition = year_submission.year.competition
    for row_id, row_id_2026, bird in row_ids_of_2026(year_submission.year, demo):
        expected, row = predictions[row_id_2026], year_submission.rows[row_id]
        called = [code for code in threshold if float(expected[code]) >= threshold[code]]
        if competition.cell_type == "codes":
            assert row[competition.column].split() == (sorted(called) or [NO_CALL])
        elif competition.cell_type == "decision":
            assert row[competition.column] == str(bird in called)
        else:
            for code, cell in row.items():
                assert float(cell) == pytest.approx(float(expected[code]), abs=2e-6)


def test_every_years_score_equals_an_independent_computation(year_submission: Submission):
    competition, solution = year_submission.year.competition, year_submission.year.solution
    call = ["score", str(year_submission.out), str(solution), "--competition", competition.name]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    metrics = {"codes": f1_of_rows, "decision": weighted_accuracy, "probability": macro_auc}
    score = padded_cmap if competition is BIRDCLEF_2023 else metrics[competition.cell_type]
    expected = score(table(solution)[1], year_submission.rows)
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-8)


def f1_of_rows(truth: Rows, year_submission: Rows) -> float:
    f1 = []
    for row_id, row in truth.items():
        present, called = set(row["birds"].split()), set(year_submission[row_id]["birds"].split())
        f1.append(2 * len(present & called) / (len(present) + len(called)))
    return float(np.mean(f1))


def weighted_accuracy(truth: Rows, year_submission: Rows) -> float:
    right: dict[str, dict[str, list[bool]]] = {}
    for row_id, row in truth.items():
        bird = BIRDCLEF_2022.parse_row_id(row_id).bird
        right_of_bird = right.setdefault(bird, {}).setdefault(row["target"], [])
        right_of_bird.append(year_submission[row_id]["target"] == row["target"])
    return float(np.mean([np.mean([np.mean(each) for each in r.values()]) for r in right.values()]))


def columns(truth: Rows, year_submission: Rows) -> Iterator[tuple[list[int], list[float]]]:
    for code in next(iter(truth.values())):
        yield (
            [int(row[code]) for row in truth.values()],
            [float(year_submission[row_id][code]) for row_id in truth],
        )


def padded_cmap(truth: Rows, year_submission: Rows) -> float:
    ones = [1] * 5
    precisions = [
        average_precision_score(target + ones, score + ones)
        for target, score in columns(truth, year_submission)
    ]
    return float(np.mean(precisions))


def macro_auc(truth: Rows, year_submission: Rows) -> float:
    scored = [
        (target, score)
        for target, score in columns(truth, year_submission)
        if 0 < sum(target) < len(target)
    ]
    return float(np.mean([roc_auc_score(target, score) for target, score in scored]))


def test_a_submission_equals_the_one_that_the_run_wrote(
    submission_2026: Submission, finished_run: Path
):
    assert submission_2026.out.read_bytes() == (finished_run / "submission.csv").read_bytes()


@YEARS
def test_while_the_test_is_hidden_the_samples_rows_are_written_and_the_time_is_estimated(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data", hidden=False)
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    rows = read_valid_rows(year, tmp_path / "s.csv")
    blank = {"codes": NO_CALL, "decision": "False"}.get(competition.cell_type)
    for row in rows.values():
        for cell in row.values():  # two recordings of each of twelve species
            assert cell == blank if blank else float(cell) == pytest.approx(3 / 36)
    assert f"about {competition.hidden_soundscapes:,} soundscapes" in output


# Rows and columns that do not match


def test_rows_without_prediction_hold_the_class_priors(bundle: Path, demo: Path, tmp_path: Path):
    year = write_year(demo, BIRDCLEF_2026, tmp_path / "data", hidden=False)
    header, *lines = (year.folder / "train.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("rivwar1")][1:]
    (year.folder / "train.csv").write_text("".join([header, *kept]))
    submit(bundle, year.folder, tmp_path / "s.csv")
    (row, *_) = read_valid_rows(year, tmp_path / "s.csv").values()
    gone = lines[1].split(",")[0] if lines[0].startswith("rivwar1") else lines[0].split(",")[0]
    shares = {"rivwar1": 1, gone: 2}
    for code, cell in row.items():
        assert float(cell) == pytest.approx(shares.get(code, 3) / (21 + 12))


def test_species_of_one_side_only_are_named(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    header, rows = table(data.sample)
    codes = ["1e5", *header[:1:-1], "007"]  # the first species is left out
    lines = [["row_id", *codes], *([row_id, *["0.1"] * len(codes)] for row_id in rows)]
    data.sample.write_text("".join(",".join(line) + "\n" for line in lines))
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    for row_id, row in read_valid_rows(data, tmp_path / "s.csv").items():
        for code in ("1e5", "007"):  # without focal recordings
            assert float(row.pop(code)) == pytest.approx(1 / (24 + len(codes)))
        assert row.items() < submission_2026.rows[row_id].items()
    assert "1e5, 007" in output and header[1] in output


def empty_row(competition: Competition) -> dict[str, str]:
    """Return the cells of a row without prediction, in the years of decisions and codes."""
    return {competition.column: NO_CALL if competition.cell_type == "codes" else "False"}


def test_a_repeated_row_is_written_once(year_with_rows_table, bundle: Path, tmp_path: Path):
    year, original = year_with_rows_table
    rows_table = year.folder / year.competition.rows_table
    rows_table.write_text(rows_table.read_text() + rows_table.read_text().splitlines()[2] + "\n")
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == original.out.read_bytes()
    assert year.row_ids[1] in output and year.row_ids[1] not in original.output


def test_rows_of_missing_soundscapes_are_counted(
    year_with_rows_table, bundle: Path, tmp_path: Path
):
    year, original = year_with_rows_table
    name, file = next(iter(year.soundscapes.items()))
    file.unlink()
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    rows = read_valid_rows(year, tmp_path / "s.csv")
    lost = [row_id for row_id in rows if year.competition.parse_row_id(row_id).soundscape == name]
    assert rows == original.rows | dict.fromkeys(lost, empty_row(year.competition))
    assert f"{len(lost)} rows of 1 soundscape" in output and name in output


def test_soundscapes_without_requested_rows_are_named(
    year_with_rows_table, bundle: Path, tmp_path: Path
):
    year, original = year_with_rows_table
    name, file = list(year.soundscapes.items())[1]
    rows_table = year.folder / year.competition.rows_table
    lines = rows_table.read_text().splitlines(keepends=True)
    rows_table.write_text("".join(line for line in lines if not line.startswith(name)))
    shutil.copy(file, file.with_name("invalid.ogg"))
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == {row_id: row for row_id, row in original.rows.items() if name not in row_id}
    assert "2 soundscapes without requested rows" in output
    assert file.name in output and "invalid.ogg" in output


def request_rows(year: Year, row_ids: Iterable[str]) -> None:
    """Request further rows; their other cells are empty."""
    rows_table = year.folder / year.competition.rows_table
    commas = "," * (len(table(rows_table)[0]) - 1)
    rows_table.write_text(
        rows_table.read_text() + "".join(f"{row_id}{commas}\n" for row_id in row_ids)
    )


def test_row_ids_that_cannot_be_parsed_are_written_and_named(
    year_with_rows_table, bundle: Path, tmp_path: Path
):
    year, original = year_with_rows_table
    invalid = ("nonsense", "a_b_x", "a_x_-5", "5", "größe 5")
    request_rows(year, invalid)
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == original.rows | dict.fromkeys(invalid, empty_row(year.competition))
    assert list(rows) == [*year.row_ids, *invalid]
    assert "5 row ids" in output and "nonsense" in output


def test_without_a_table_of_rows_the_samples_rows_are_written(
    year_with_rows_table, bundle: Path, tmp_path: Path
):
    year, original = year_with_rows_table
    (year.folder / year.competition.rows_table).unlink()
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    _, sample = table(year.sample)
    _, rows = table(tmp_path / "s.csv")
    assert rows == {row_id: original.rows[row_id] for row_id in sample}
    assert "test.csv: no such file; the sample's rows are used" in output


def test_rows_beyond_the_end_of_a_soundscape_are_named(
    year_with_rows_table, bundle: Path, tmp_path: Path
):
    year, original = year_with_rows_table
    name, file = next(iter(year.soundscapes.items()))
    bird = f"_{year.codes[0]}" if year.competition.cell_type == "decision" else ""
    invalid = [f"{name}{bird}_{end}" for end in (7, 600)]
    request_rows(year, invalid)
    output = submit(bundle, year.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == original.rows | dict.fromkeys(invalid, empty_row(year.competition))
    assert "2 rows of 1 soundscape outside of the audio that could be predicted keep" in output
    assert file.name in output


def test_a_low_threshold_calls_all_species(year_with_rows_table, bundle: Path, tmp_path: Path):
    year, _ = year_with_rows_table
    submit(bundle, year.folder, tmp_path / "s.csv", "--threshold", "1e-7")
    called = {"codes": " ".join(year.codes), "decision": "True"}[year.competition.cell_type]
    for row in read_valid_rows(year, tmp_path / "s.csv").values():
        assert row == {year.competition.column: called}


# Faulty soundscapes


@pytest.mark.parametrize("broken", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_a_broken_soundscape_keeps_priors_and_the_others_are_unchanged(
    broken: bytes, bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    name, file = next(iter(data.soundscapes.items()))
    file.write_bytes(broken)
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    rows = read_valid_rows(data, tmp_path / "s.csv")
    lost = [row_id for row_id in rows if row_id.startswith(name)]
    for row_id, row in rows.items():
        if row_id in lost:
            assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)
        else:
            assert row == submission_2026.rows[row_id]
    assert file.name in output and "12 predicted, 12 with priors" in output


def test_a_truncated_soundscape_is_predicted_as_far_as_it_goes(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    name, file = next(iter(data.soundscapes.items()))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    own = [row_id for row_id in rows if row_id.startswith(name)]
    assert 4 < len(own) < 8  # by the length in its last intact page
    for row_id in set(rows) - {own[-1]}:
        assert_same_scores(rows[row_id], submission_2026.rows[row_id])


def test_a_soundscape_shorter_than_most_has_as_many_rows(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    file, original = data.soundscapes.values()
    shutil.copy(original, original.with_stem("third"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert submission_2026.rows.keys() <= rows.keys() and len(rows) == 36
    message = "6 rows of 1 soundscape outside of the audio that could be predicted"
    assert message in output and file.name in output


def test_a_soundscape_without_its_middle_is_named(bundle: Path, data: Year, tmp_path: Path):
    file = next(iter(data.soundscapes.values()))
    sound = bytearray(file.read_bytes())
    third = len(sound) // 3
    sound[third : third + 20_000] = b"lost" * 5000
    file.write_bytes(sound)
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    read_valid_rows(data, tmp_path / "s.csv")
    message = "1 soundscape with problems, predicted as far as possible"
    assert f"{message}: {file.name} (gap: " in output


def test_where_no_soundscape_can_be_predicted_the_status_is_1(
    bundle: Path, data: Year, tmp_path: Path
):
    for file in data.soundscapes.values():
        file.write_bytes(b"garbage")
    submit(bundle, data.folder, tmp_path / "s.csv", status=1)
    for row in read_valid_rows(data, tmp_path / "s.csv").values():
        assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)


def test_a_soundscape_may_have_any_name_and_subfolder(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    (name, file), _ = data.soundscapes.items()
    invalid = 'rain, "wind" größe'
    (file.parent / "deep").mkdir()
    file.rename(file.parent / "deep" / f"{invalid}.ogg")
    submit(bundle, data.folder, tmp_path / "s.csv")
    _, rows = table(tmp_path / "s.csv")
    assert rows == {
        row_id.replace(name, invalid): row for row_id, row in submission_2026.rows.items()
    }


def test_two_soundscapes_of_one_name_have_one_row_each(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    file = next(iter(data.soundscapes.values()))
    (file.parent / "zz").mkdir()
    shutil.copy(file, file.parent / "zz" / file.name)
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    assert read_valid_rows(data, tmp_path / "s.csv") == submission_2026.rows
    assert f"zz/{file.name}" in output


# Samples, years and settings that are refused


def test_a_sample_may_have_no_rows_where_there_are_soundscapes(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    data.sample.write_text(data.sample.read_text().splitlines()[0] + "\n")
    submit(bundle, data.folder, tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes() == submission_2026.out.read_bytes()


@YEARS
def test_no_rows_and_no_soundscapes_are_refused(
    bundle: Path, demo: Path, tmp_path: Path, competition: Competition
):
    year = write_year(demo, competition, tmp_path / "data", hidden=False)
    for name in {competition.sample_submission, competition.rows_table} - {""}:
        file = year.folder / name
        file.write_text(file.read_text().splitlines()[0] + "\n")
    output = submit_error(bundle, year.folder, tmp_path / "s.csv")
    assert competition.rows_table or competition.sample_submission in output


def test_a_missing_sample_is_refused(bundle: Path, data: Year, tmp_path: Path):
    data.sample.unlink()
    assert "sample_submission.csv: no such file" in submit_error(
        bundle, data.folder, tmp_path / "s.csv"
    )


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("", "not a table"),
        ("id,a\n1,0.5\n", "no column 'row_id'"),
        ("row_id\n1\n", "row_id"),
        ("row_id,a,a\n1,0.5,0.5\n", "duplicate column 'a'"),
        ("a,row_id\n0.5,r_5\n", "expected the columns row_id and one per species"),
    ],
)
def test_an_invalid_sample_is_refused(
    sample: str, message: str, bundle: Path, data: Year, tmp_path: Path
):
    data.sample.write_text(sample)
    output = submit_error(bundle, data.folder, tmp_path / "s.csv")
    assert "sample_submission.csv: " in output and message in output


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
    output = submit_error(bundle, year.folder, tmp_path / "s.csv", "--competition", named.name)
    assert "sample_submission.csv" in output and "--competition" in output


def test_a_year_with_the_same_columns_may_be_named(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    (data.folder / "train.csv").rename(data.folder / BIRDCLEF_2023.train_table)
    submit(bundle, data.folder, tmp_path / "s.csv", "--competition", BIRDCLEF_2023.name)
    assert (tmp_path / "s.csv").read_bytes() == submission_2026.out.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--competition", "birdclef-2027"], "did you mean 'birdclef-2"),
        *((["--time-limit", each], "--time-limit: ") for each in ("soon", "0m", "-5m", "90")),
        (["--time-limit", "9s"], "--time-limit 9s: it is too short to predict anything"),
        (["--degrade"], "--time-limit"),
        (["--hop", "7"], "--hop 7"),
        (["--hop", "0"], "--hop 0"),
        (["--context", "2"], "2 s"),
        (["--frame-pooling", "max"], "--frame-pooling max"),
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
def test_invalid_settings_are_a_one_line_error(
    options: list[str], message: str, bundle: Path, submission_2026: Submission, tmp_path: Path
):
    assert message in submit_error(
        bundle, submission_2026.year.folder, tmp_path / "s.csv", *options
    )


def test_a_folder_of_no_competition_is_refused(bundle: Path, tmp_path: Path):
    for folder in (tmp_path, tmp_path / "absent"):
        output = submit_error(bundle, folder, tmp_path / "s.csv")
        assert str(folder) in output and "--data" in output


def test_a_complete_file_is_written_before_a_bundle_is_opened(data: Year, tmp_path: Path):
    assert "no bundle here" in submit_error(tmp_path / "nowhere", data.folder, tmp_path / "s.csv")
    for row in read_valid_rows(data, tmp_path / "s.csv").values():
        assert [float(cell) for cell in row.values()] == pytest.approx([3 / 36] * 12)


def test_an_earlier_file_is_kept_until_all_arguments_are_found_valid(
    bundle: Path, demo: Path, data: Year, tmp_path: Path
):
    out = tmp_path / "s.csv"
    OutputFiles(tmp_path, ("s.csv",)).register()
    write_text(out, "earlier")
    submit_error(tmp_path / "nowhere", data.folder, out)
    submit_error(bundle, data.folder, out, "--engine", "onix")
    submit_error(bundle, data.folder, out, "--threshold", "0.5")  # rows are no decisions
    submit_error(
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
    output = submit_error(bundle, data.folder, sample)
    assert "sample_submission.csv: birdmix did not write it" in output
    assert "or name another file for --out" in output
    assert sample.read_bytes() == before and not (data.folder / LIST).exists()


def test_a_file_that_cannot_be_written_is_named(
    bundle: Path, data: Year, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "s.csv"
    OutputFiles(tmp_path, ("s.csv",)).register()
    write_text(out, "earlier")

    def raise_disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(submission_table, "write_csv", raise_disk_full)
    output = submit_error(bundle, data.folder, out)
    assert f"{out}: it could not be written (No space left on device), an earlier file is" in output
    assert out.read_text() == "earlier" and [path.name for path in tmp_path.glob("*.csv")] == [
        "s.csv"
    ]
    assert "not a file" in submit_error(bundle, data.folder, tmp_path)


def test_for_a_folder_without_signs_of_its_year_the_newest_is_assumed(
    bundle: Path, data: Year, submission_2026: Submission, tmp_path: Path
):
    (data.folder / "taxonomy.csv").unlink()
    output = submit(bundle, data.folder, tmp_path / "s.csv")
    assert "the folder does not show its year, birdclef-2026 is assumed; set --comp" in output
    assert (tmp_path / "s.csv").read_bytes() == submission_2026.out.read_bytes()


def test_a_file_name_may_be_invalid_utf8(bundle: Path, data: Year, tmp_path: Path):
    file = next(iter(data.soundscapes.values()))
    try:
        file.rename(file.parent / os.fsdecode(b"gr\xf6\xdfe.ogg"))
    except OSError:
        pytest.skip("this file system takes no such names")
    submit(bundle, data.folder, tmp_path / "s.csv")
    assert len(table(tmp_path / "s.csv")[1]) == 24
