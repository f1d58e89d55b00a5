"""Output of the command line in any encoding, and answers to former names."""

import io
import sys

import pytest

from birdmix.cli.main import check_former_names
from birdmix.console import log_line, warn
from birdmix.user_errors import replace_unencodable_output


def test_characters_that_the_encoding_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    replace_unencodable_output()
    log_line("mean ± deviation of Mésange")
    warn("うぐいす")
    print("é")
    sys.stdout.flush()
    assert written.getvalue() == b"mean ? deviation of M?sange\nwarning: ????\n?\n"


def test_output_that_is_not_a_text_stream_is_unchanged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    replace_unencodable_output()
    print("é")
    assert sys.stdout.getvalue() == "é\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["segments", "DIR"], "there is no command segments; use birdmix clips"),
        (["search", "FILE"], "there is no command search; use birdmix tune"),
        (["predict", "--step", "2.5"], "there is no option --step; use --hop"),
        (["submit", "--pool=max"], "there is no option --pool; use --frame-pooling"),
        (["predict", "--scores", "csv"], "there is no option --scores; use --probabilities"),
    ],
)
def test_former_names_are_answered_with_the_present_ones(
    arguments: list[str], answer: str, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as stop:
        check_former_names(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {answer}\n"


def test_present_names_are_accepted():
    check_former_names(["predict", "--hop", "2.5", "--out", "search"])
    check_former_names([])
