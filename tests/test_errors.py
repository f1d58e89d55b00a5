"""What the command line prints, whatever the encoding of its output."""

import io
import sys

import pytest

from birdmix.app.console import say, warn
from birdmix.app.errors import replace_what_output_lacks


def test_characters_that_the_output_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    replace_what_output_lacks()
    say("mean ± deviation of Mésange")
    warn("うぐいす")
    print("é")
    sys.stdout.flush()
    assert written.getvalue() == b"mean ? deviation of M?sange\nwarning: ????\n?\n"


def test_output_that_is_no_stream_of_text_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    replace_what_output_lacks()
    print("é")
    assert sys.stdout.getvalue() == "é\n"  # type: ignore[attr-defined]
