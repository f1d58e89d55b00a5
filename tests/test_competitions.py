"""Row ids, soundscapes and sites of each year's competition."""

from pathlib import Path

import pytest

from birdmix.competitions import BIRDCLEF_2022, COMPETITIONS, RowId, competition_named
from birdmix.kaggle.submission_task import read_task
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
def test_a_row_id_is_parsed_into_soundscape_time_and_bird(competition):
    stem, soundscape, site = SOUNDSCAPES[competition.name]
    assert competition.soundscape_name(stem) == soundscape
    assert competition.site_of_soundscape(soundscape) == site
    bird = "houfin" if competition.cell_type == "decision" else ""
    row = RowId(soundscape, 15, bird)
    assert (
        competition.parse_row_id(
            competition.format_row_id(row.soundscape, row.end_seconds, row.bird)
        )
        == row
    )


@pytest.mark.parametrize("row_id", ["", "5", "_5", "a_", "a_b", "a_5.0", "a_-5", "a_5 "])
def test_a_row_id_that_cannot_be_parsed_is_refused(row_id: str):
    with pytest.raises(ValueError, match=r"it must be FILE_SECONDS"):
        competition_named("birdclef-2026").parse_row_id(row_id)


def test_a_row_id_of_2022_names_a_bird():
    with pytest.raises(ValueError, match=r"row_id 'soundscape_5' is not valid in birdclef-2022"):
        competition_named("birdclef-2022").parse_row_id("soundscape_5")


def test_rows_match_a_soundscape_whether_its_file_name_is_nfc_or_nfd(tmp_path: Path):
    nfc, nfd = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"
    write_wave(tmp_path / f"test_soundscapes/soundscape_{nfd}.wav", seconds=5)
    for name in ("sample_submission.csv", "test.csv"):
        write_text(tmp_path / name, f"row_id,target\nsoundscape_{nfc}_wren_5,False\n")
    task = read_task(tmp_path, BIRDCLEF_2022)
    assert task.soundscapes == {f"soundscape_{nfc}": f"soundscape_{nfd}.wav"}
