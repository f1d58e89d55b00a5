"""What each year calls its rows, and what rows are about."""

from pathlib import Path

import pytest

from birdmix.competitions import BIRDCLEF_2022, COMPETITIONS, Row, competition_named
from birdmix.kaggle.task import read_task
from tests.recordings import write_text, write_wave

SOUNDSCAPES = {
    "birdclef-2021": ("2782_SSW_20170701", "2782_SSW", "SSW"),
    "birdclef-2022": ("soundscape_453028782", "soundscape_453028782", ""),
    "birdclef-2023": ("soundscape_29201", "soundscape_29201", ""),
    "birdclef-2024": ("soundscape_29201", "soundscape_29201", ""),
    "birdclef-2025": ("soundscape_8358733", "soundscape_8358733", ""),
    "birdclef-2026": (
        *["BC2026_Test_0001_S05_20260511_053000"] * 2,
        "S05",
    ),
}


@pytest.mark.parametrize("competition", COMPETITIONS, ids=lambda each: each.name)
def test_a_row_id_tells_what_its_row_is_about(competition):
    stem, soundscape, site = SOUNDSCAPES[competition.name]
    assert competition.soundscape(stem) == soundscape
    assert competition.site_of(soundscape) == site
    bird = "houfin" if competition.value == "decision" else ""
    row = Row(soundscape, 15, bird)
    assert competition.row(competition.row_id(row.soundscape, row.end_seconds, row.bird)) == row


@pytest.mark.parametrize("row_id", ["", "5", "_5", "a_", "a_b", "a_5.0", "a_-5", "a_5 "])
def test_a_row_id_that_tells_nothing_is_refused(row_id: str):
    with pytest.raises(ValueError, match=r"it is FILE_SECONDS"):
        competition_named("birdclef-2026").row(row_id)


def test_a_row_id_of_2022_names_a_bird():
    with pytest.raises(ValueError, match=r"row_id 'soundscape_5' is none of birdclef-2022"):
        competition_named("birdclef-2022").row("soundscape_5")


def test_rows_are_of_a_soundscape_however_the_disk_spells_its_accents(tmp_path: Path):
    nfc, nfd = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"
    write_wave(tmp_path / f"test_soundscapes/soundscape_{nfd}.wav", seconds=5)
    for name in ("sample_submission.csv", "test.csv"):
        write_text(tmp_path / name, f"row_id,target\nsoundscape_{nfc}_wren_5,False\n")
    task = read_task(tmp_path, BIRDCLEF_2022)
    assert task.soundscapes == {f"soundscape_{nfc}": f"soundscape_{nfd}.wav"}
