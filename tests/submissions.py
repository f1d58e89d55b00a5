"""Submissions for tests: running the command, and checking the file as Kaggle does."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.competitions import NO_CALL
from tests.years import Year

runner = CliRunner()

#: Rows of a table by their ids; all cells are strings.
Rows = dict[str, dict[str, str]]


def submit(bundle: Path, data: Path, out: Path, *options: str, status: int = 0) -> str:
    """Run the command; return its output in one line."""
    call = ["submit", "--bundle", str(bundle), "--data", str(data), "--out", str(out), *options]
    done = runner.invoke(app, call)
    assert done.exit_code == status and "Traceback" not in done.output, done.output
    return " ".join(done.output.split())


def submit_error(bundle: Path, data: Path, out: Path, *options: str) -> str:
    """Run the command, which must end with a one-line error; return the error."""
    call = ["submit", "--bundle", str(bundle), "--data", str(data), "--out", str(out), *options]
    done = runner.invoke(app, call)
    assert done.exit_code == 2 and "Traceback" not in done.output, done.output
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


def table(file: Path) -> tuple[list[str], Rows]:
    """Read a table as strings: its header, and its rows, which must be unique."""
    with file.open(encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    assert all(len(line) == len(header) for line in lines)
    rows = {line[0]: dict(zip(header[1:], line[1:], strict=True)) for line in lines}
    assert len(rows) == len(lines)
    return header, rows


def read_valid_rows(year: Year, out: Path) -> Rows:
    """Return a submission's rows after checking that row ids and cells are valid for its year."""
    header, rows = table(out)
    assert header == table(year.sample)[0]
    assert rows.keys() == set(year.row_ids)
    for row in rows.values():
        for cell in row.values():
            if year.competition.cell_type == "probability":
                assert 0 < float(cell) < 1
            elif year.competition.cell_type == "decision":
                assert cell in ("True", "False")
            else:
                codes = cell.split(" ")
                assert codes == [NO_CALL] or set(codes) <= set(year.codes)
                assert len(set(codes)) == len(codes)
    return rows


def scores_of(row: dict[str, str]) -> list[float]:
    return [float(cell) for cell in row.values()]


def assert_same_scores(row: dict[str, str], expected: dict[str, str]) -> None:
    """Compare the scores of a window that was predicted twice.

    They are equal to 1e-4, not to the last digit: the order of floating-point sums depends on the
    batch size.
    """
    assert row.keys() == expected.keys()
    assert scores_of(row) == pytest.approx(scores_of(expected), rel=1e-4)


def predict_rows(bundle: Path, demo: Path, out: Path, *options: str) -> Rows:
    """Return `birdmix predict`'s scores of the demo's test soundscapes, by row ids of 2026."""
    call = ["predict", "--bundle", str(bundle), str(demo / "test_soundscapes"), "--out", str(out)]
    done = runner.invoke(app, [*call, "--probabilities", "csv", *options])
    assert done.exit_code == 0, done.output
    with (out / "probabilities.csv").open(newline="") as stream:
        return {
            f"{Path(row['path']).stem}_{float(row['end_seconds']):g}": row
            for row in csv.DictReader(stream)
        }
