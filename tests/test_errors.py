"""Output of the command line in any encoding."""

import io
import sys

import pytest

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
