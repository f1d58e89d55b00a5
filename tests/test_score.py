"""`birdmix score`: each year's metric, and invalid input."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from birdmix.cli.main import app


def score_lines(folder: Path, submission: str, solution: str, year: int | None) -> list[str]:
    """Score two texts; return the printed lines, or the one line of an error."""
    for name, text in (("submission.csv", submission), ("solution.csv", solution)):
        (folder / name).write_text(text)
    files = [str(folder / name) for name in ("submission.csv", "solution.csv")]
    options = [f"--competition=birdclef-{year}"] if year else []
    done = CliRunner().invoke(app, ["score", *files, *options])
    assert "Traceback" not in done.output
    if done.exit_code:
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        return [done.stderr.strip().replace(f"{folder}/", "")]
    return done.stdout.splitlines()


def test_2021_is_the_mean_f1_of_sets_of_codes_including_nocall(tmp_path: Path):
    solution = "row_id,birds\na_5,nocall\na_10,x y\na_15,z\na_20,nocall\n"
    # 1; one hit of two and one: 2/3; order and repetitions do not matter: 2/3; 0
    submission = "row_id,birds\na_20,z\na_15,z y z\na_5,nocall\na_10,x\n"
    lines = score_lines(tmp_path, submission, solution, None)
    assert lines[0] == "birdclef-2021: F1 of rows, 4 of 4 codes scored, 4 rows"
    assert lines[1:] == [f"{(1 + 2 / 3 + 2 / 3 + 0) / 4:.8f}"]


def test_2022_gives_equal_weight_to_species_and_to_their_positives_and_negatives(tmp_path: Path):
    truth = {"s_1_a_5": 1, "s_1_a_10": 0, "s_1_a_15": 0, "s_1_b_5": 1, "s_1_b_10": 0}
    submitted = {"s_1_a_5": 1, "s_1_a_10": 0, "s_1_a_15": 1, "s_1_b_5": 0, "s_1_b_10": 0}
    solution = "row_id,target\n" + "".join(f"{k},{bool(v)}\n" for k, v in truth.items())
    submitted |= {"s_1_c_5": 1}  # not in the solution
    submission = "row_id,target\n" + "".join(f"{k},{bool(v)}\n" for k, v in submitted.items())
    lines = score_lines(tmp_path, submission, solution, None)
    # a: all of one positive, half of two negatives; b: none of one, all of one
    assert lines[-1] == f"{((1 + 1 / 2) / 2 + (0 + 1) / 2) / 2:.8f}"
    assert lines[0].endswith("weighted accuracy, 2 of 2 species scored, 5 rows")
    assert lines[1] == "left out: 1 row that the solution lacks"


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Truth and probabilities of 40 rows and 5 species, one in no row and one in all rows."""
    rng = np.random.default_rng(0)
    truth = (rng.random((40, 5)) < 0.3).astype(int)
    truth[:, 3:] = [0, 1]
    codes = pd.Index(["22961", "1e5", "rufhor2", "never", "always"])
    rows = pd.Index([f"soundscape_7_{5 * n + 5}" for n in range(40)], name="row_id")
    score = pd.DataFrame(rng.random((40, 5)).round(1) * 0.9, rows, codes)  # with ties
    return pd.DataFrame(truth, rows, codes), score


@pytest.mark.parametrize("year", [2024, 2025, 2026])
def test_2024_and_later_are_the_macro_roc_auc(tables, tmp_path: Path, year: int):
    truth, score = tables
    shuffled = score.sample(frac=1, random_state=0)[score.columns[::-1]]
    lines = score_lines(tmp_path, shuffled.to_csv(), truth.to_csv(), year)
    expected = np.mean([roc_auc_score(truth[c], score[c]) for c in ("22961", "1e5", "rufhor2")])
    assert float(lines[-1]) == pytest.approx(expected, abs=1e-8)
    assert lines[0] == f"birdclef-{year}: macro ROC-AUC, 3 of 5 species scored, 40 rows"
    assert len(lines) == 2


def test_roc_auc_depends_on_the_order_of_scores_only(tables, tmp_path: Path):
    truth, score = tables
    probabilities, ranks, logits = (
        score_lines(tmp_path, each.to_csv(), truth.to_csv(), 2024)
        for each in (score, score.rank(), np.log((score + 0.01) / (1 - score)))
    )
    assert probabilities == ranks == logits


def test_2023_is_the_padded_cmap(tables, tmp_path: Path):
    truth, score = tables
    lines = score_lines(tmp_path, score.to_csv(), truth.to_csv(), 2023)
    expected = np.mean(
        [average_precision_score(np.r_[truth[c], [1] * 5], np.r_[score[c], [1] * 5]) for c in truth]
    )
    assert float(lines[-1]) == pytest.approx(expected, abs=1e-8)
    assert lines[0] == "birdclef-2023: padded cmAP, 5 of 5 species scored, 40 rows"


def test_ignored_rows_are_left_out_and_each_usage_is_scored_by_itself(tables, tmp_path: Path):
    truth, score = tables
    usage = np.array(["Public"] * 15 + ["Private"] * 15 + ["Ignored"] * 10)
    lines = score_lines(tmp_path, score.to_csv(), truth.assign(Usage=usage).to_csv(), 2025)
    alone = {
        part: score_lines(tmp_path, score.to_csv(), truth[usage == part].to_csv(), 2025)[-1]
        for part in ("Public", "Private")
    }
    assert lines[0].endswith("30 rows") and len(lines) == 5
    assert lines[1] == "left out: 10 rows that the solution ignores"
    for line, part in zip(lines[2:4], alone, strict=True):
        assert line.startswith(f"{part}: {alone[part][:-3]}") and line.endswith("15 rows")
    together = score_lines(tmp_path, score.to_csv(), truth[usage != "Ignored"].to_csv(), 2025)[-1]
    assert lines[-1] == together


SOLUTION = "row_id,a,b\nr_5,1,0\nr_10,0,1\n"
CALLS = "row_id,target\ns_a_5,True\n"
CODES = "row_id,birds\nr_5,a\nr_10,nocall\n"


@pytest.mark.parametrize(
    ("submission", "solution", "year", "expected"),
    [
        ("row_id,a,b\nr_5,0.1,0.2\n", SOLUTION, 2025, "1 row is missing, the first is 'r_10'"),
        ("row_id,b\nr_5,0\nr_10,0\n", SOLUTION, 2025, "1 column is missing, the first is 'a'"),
        (SOLUTION + "r_5,0,0\n", SOLUTION, 2025, "submission.csv: duplicate row_id 'r_5'"),
        (SOLUTION.replace("b", "a"), SOLUTION, 2025, "submission.csv: duplicate column 'a'"),
        (SOLUTION.replace("0,1", "0,x"), SOLUTION, 2024, "row_id 'r_10', column 'b': 'x' is not a"),
        (SOLUTION.replace("0,1", "0,"), SOLUTION, 2024, "row_id 'r_10', column 'b': '' is not a f"),
        (SOLUTION.replace("0,1", "nan,1"), SOLUTION, 2026, "row_id 'r_10', column 'a': 'nan' is "),
        (SOLUTION.replace("0,1", "0,1.5"), SOLUTION, 2023, "column 'b': '1.5' is not a numb"),
        (SOLUTION.replace("0,1", "0,1,7"), SOLUTION, 2023, "submission.csv: not a table of comma-"),
        (SOLUTION, SOLUTION.replace("0,1", "0,0.5"), 2026, "solution.csv: row_id 'r_10', "),
        (SOLUTION, "row_id,a,b\nr_5,0,0\nr_10,0,0\n", 2025, "solution.csv: macro ROC-AUC: no c"),
        (SOLUTION, SOLUTION, None, "birdclef-2025 (macro ROC-AUC), birdclef-2026 (macro R"),
        (SOLUTION, SOLUTION, 2027, "competition='birdclef-2027' is unknown; did you mean 'bird"),
        (SOLUTION, SOLUTION, 2022, "solution.csv: no column 'target', which birdclef-20"),
        ("", SOLUTION, 2025, "submission.csv: not a table of comma-separated values"),
        ("id,a\n1,0\n", SOLUTION, 2025, "submission.csv: no column 'row_id'"),
        (CODES.replace("nocall", ""), CODES, 2021, "submission.csv: row_id 'r_10' has no codes; w"),
        (CODES, CODES, 2025, "column 'birds' belongs to birdclef-2021, birdclef-2025 has one col"),
        (CALLS, CALLS, 2026, "column 'target' belongs to birdclef-2022, birdclef-2026 has one col"),
        (SOLUTION.replace("0,1", "0,inf"), SOLUTION, 2025, "column 'b': 'inf' is not a finite num"),
        (SOLUTION.replace("0,1", "0,1.5"), SOLUTION, 2023, "of ones: a score of 1 ties with them"),
        (SOLUTION, "id,a\nr_5,1\n", 2025, "solution.csv: no column 'row_id', which submissions"),
        (SOLUTION, "row_id,a,b\n", 2025, "solution.csv: no rows; nothing can be scored"),
        (CODES, "row_id,birds\n", 2021, "solution.csv: no rows; nothing can be scored"),
        (CALLS, "row_id,target\n", 2022, "solution.csv: no rows; nothing can be scored"),
        (SOLUTION, "row_id,a,Usage\nr_5,1,Ignored\n", 2025, "no rows apart from ignored ones; not"),
        (
            "row_id,target\ns_a_5,maybe\n",
            "row_id,target\ns_a_5,True\n",
            2022,
            "submission.csv: row_id 's_a_5', column 'target': 'maybe' is not 0 or 1, false or true",
        ),
        (
            "row_id,target\nsa5,True\n",
            "row_id,target\nsa5,True\n",
            None,
            "solution.csv: row_id 'sa5' is not valid in birdclef-2022; it must be FILE_BIRD_SECOND",
        ),
    ],
)  # fmt: skip
def test_invalid_input_is_a_one_line_error(
    submission: str, solution: str, year: int | None, expected: str, tmp_path: Path
):
    (line,) = score_lines(tmp_path, submission, solution, year)
    assert line.startswith("error: ") and expected in line


def test_a_missing_file_is_an_error(tmp_path: Path):
    call = ["score", str(tmp_path / "absent.csv"), str(tmp_path / "solution.csv")]
    done = CliRunner().invoke(app, [*call, "--competition=birdclef-2025"])
    assert done.exit_code == 2 and "no such file" in done.stderr
