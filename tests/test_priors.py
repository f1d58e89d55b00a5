"""What is known beforehand, and what is made of scores, in numbers worked out by hand."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from birdmix.competitions import BIRDCLEF_2021, BIRDCLEF_2024, BIRDCLEF_2025, BIRDCLEF_2026
from birdmix.kaggle.finish import Finish
from birdmix.kaggle.priors import PSEUDO_WINDOWS, SitesAndHours, class_priors
from birdmix.kaggle.settings import FinishSettings
from birdmix.recordings.demo_tables import CODES
from birdmix.windows import FLOOR, logit, probability
from tests.recordings import write_text, write_wave

SPECIES = ("frog", "1e5", "owl", "elsewhere")  # nobody has labelled an owl
NIGHT, NOON = "BC2026_Train_0001_S01_20260511_235957", "BC2026_Train_0002_S02_20260511_120000"
HEARD_AT_SITE_1 = "BC2026_Test_0009_S01_20260601_120000"


def year_2026(root: Path, rows: list[str]) -> Path:
    """A folder with labels of two soundscapes, and without any focal recording."""
    write_text(root / "taxonomy.csv", "primary_label\nfrog\n1e5\nowl\n")
    for stem in (NIGHT, NOON):
        write_wave(root / f"train_soundscapes/{stem}.wav", seconds=20)
    table = ["filename,start,end,primary_label", *rows, *rows[::2]]  # windows are listed twice
    write_text(root / "train_soundscapes_labels.csv", "\n".join(table) + "\n")
    return root


def window(stem: str, number: int, labels: str) -> str:
    return f"{stem}.wav,00:00:{5 * number:02d},00:00:{5 * number + 5:02d},{labels}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six windows: at S01 the frog in both, once with 1e5; at S02 the frog in one of four."""
    night = [window(NIGHT, 0, "frog;1e5"), window(NIGHT, 1, "frog")]
    noon = [window(NOON, n, "frog" if n == 2 else "") for n in range(4)]
    return year_2026(tmp_path, night + noon)


def moved(count: float, heard: float, overall: float) -> float:
    """The log-odds by which a rate differs from the overall one, after the m-estimate."""
    rate = (heard + PSEUDO_WINDOWS * overall) / (count + PSEUDO_WINDOWS)
    return float(logit(np.array(rate)) - logit(np.array(overall)))


def test_a_class_prior_is_the_share_of_focal_recordings_with_one_added(tmp_path: Path):
    write_text(tmp_path / "train.csv", "primary_label,filename\nfrog,a\n1e5,b\nfrog,c\nelse,d\n")
    told = class_priors(tmp_path, BIRDCLEF_2026, ("owl", "frog", "1e5"))
    assert told == pytest.approx(np.array([1, 3, 2]) / 7)


def test_without_metadata_the_class_priors_are_equal_and_that_is_said(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"train_metadata\.csv: no such file; .* 0\.25"):
        assert class_priors(tmp_path, BIRDCLEF_2024, SPECIES).tolist() == [0.25] * 4


def test_a_site_adds_what_its_rate_differs_by(folder: Path):
    told = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    added = told.log_odds(HEARD_AT_SITE_1, None, np.array([5, 10]))
    expected = [moved(2, 2, 3 / 6), moved(2, 1, 1 / 6), 0, 0]
    assert added == pytest.approx(np.array([expected, expected]))
    away = told.log_odds(HEARD_AT_SITE_1.replace("S01", "S02"), None, np.array([5]))
    assert away == pytest.approx(np.array([[moved(4, 1, 3 / 6), moved(4, 0, 1 / 6), 0, 0]]))


def test_an_hour_adds_what_it_and_its_neighbours_tell_across_midnight(folder: Path):
    """The middles of the night's windows are at 23:59:59.5 and 00:00:04.5."""
    told = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    frog = {
        hour: told.log_odds("BC2026_Test_1_S99_x", datetime(2026, 6, 1, hour), np.array([5]))[0, 0]
        for hour in (0, 1, 2, 12, 13, 22, 23)
    }
    assert frog[0] == pytest.approx(moved(0.75, 0.75, 0.5)) == frog[23]
    assert frog[1] == pytest.approx(moved(0.25, 0.25, 0.5)) == frog[22]
    assert frog[12] == pytest.approx(moved(2, 0.5, 0.5))
    assert frog[13] == pytest.approx(moved(1, 0.25, 0.5))
    assert frog[2] == 0


def test_a_row_belongs_to_the_hour_that_its_middle_is_in(folder: Path):
    told = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    added = told.log_odds("unplaced", datetime(2026, 6, 1, 0, 59, 53), np.array([5, 10]))[:, 0]
    assert added == pytest.approx([moved(0.75, 0.75, 0.5), moved(0.25, 0.25, 0.5)])


def test_where_place_and_hour_are_unknown_nothing_is_added(folder: Path):
    told = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    assert not told.log_odds("BC2026_Test_1_S99_20260601_120000", None, np.arange(5, 65, 5)).any()
    assert not told.log_odds("unplaced", datetime(2026, 6, 1, 6), np.arange(5, 65, 5)).any()


def test_site_and_hour_are_added_up_and_windows_count_once(folder: Path):
    told = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    noon, ends = datetime(2026, 6, 1, 12), np.array([5])
    both = told.log_odds(HEARD_AT_SITE_1, noon, ends)
    apart = told.log_odds(HEARD_AT_SITE_1, None, ends) + told.log_odds("unplaced", noon, ends)
    assert both == pytest.approx(apart)
    assert told.known == "6 labelled windows of 2 soundscapes, 2 sites, 3 hours of the day"


def test_the_more_windows_of_a_site_the_more_it_tells(tmp_path: Path):
    told = []
    for count in (1, 2, 4):
        rows = [window(NIGHT, n, "frog") for n in range(count)]
        silent = [window(NOON, n, "") for n in range(count)]  # the overall rate stays a half
        priors = SitesAndHours(
            year_2026(tmp_path / str(count), rows + silent), BIRDCLEF_2026, ["frog"]
        )
        told.append(priors.log_odds(HEARD_AT_SITE_1, None, np.array([5])).item())
    assert 0 < told[0] < told[1] < told[2] == pytest.approx(moved(4, 4, 0.5))


def test_the_names_of_2021_tell_the_site_and_no_hour(tmp_path: Path):
    write_text(tmp_path / "train_metadata.csv", "primary_label\n1e5\nfrog\n")
    for stem in ("7019_COR_20190904", "10534_SSW_20170429"):
        write_wave(tmp_path / f"train_soundscapes/{stem}.wav", seconds=10)
    write_text(
        tmp_path / "train_soundscape_labels.csv",
        "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,1e5 frog\n"
        "7019_COR_10,COR,7019,10,nocall\n10534_SSW_5,SSW,10534,5,nocall\n",
    )
    told = SitesAndHours(tmp_path, BIRDCLEF_2021, ("1e5", "frog"))
    expected = [[moved(2, 1, 1 / 3)] * 2]
    assert told.log_odds("28933_COR", None, np.array([5])) == pytest.approx(np.array(expected))
    assert told.known == "3 labelled windows of 2 soundscapes, 2 sites, 0 hours of the day"


def test_one_soundscape_tells_nothing_of_its_site_that_is_not_true_of_all(demo: Path):
    told = SitesAndHours(demo, BIRDCLEF_2026, CODES)
    assert told.known == "12 labelled windows of 1 soundscape, 1 site, 1 hour of the day"
    at_its_hour = datetime(2026, 6, 1, 5, 30)
    added = told.log_odds("BC2026_Test_0001_S01_20260601_053000", at_its_hour, np.arange(5, 65, 5))
    assert added == pytest.approx(np.zeros((12, len(CODES))))


def test_what_cannot_be_learnt_from_is_told_in_a_line(folder: Path):
    with pytest.raises(ValueError, match="--prior-weight: birdclef-2025 has no labelled sounds"):
        SitesAndHours(folder, BIRDCLEF_2025, SPECIES)
    with pytest.warns(
        UserWarning, match=rf"in 1 place, first .*{NOON}.wav \(missing: named by .*, row 4"
    ):
        (folder / f"train_soundscapes/{NOON}.wav").unlink()
        SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    (folder / f"train_soundscapes/{NIGHT}.wav").unlink()
    with pytest.raises(ValueError, match="none of the soundscapes of .* is in train_soundscapes/"):
        SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    (folder / "train_soundscapes_labels.csv").unlink()
    with pytest.raises(ValueError, match=r"train_soundscapes_labels\.csv: no such file"):
        SitesAndHours(folder, BIRDCLEF_2026, SPECIES)


# ---------------------------------------------------------------- finishing

ENDS = np.array([5, 10, 15])
SCORE = np.array([[0, 4, np.nan, -30], [2, 0, np.nan, -20], [-2, 0, np.nan, -25]], np.float32)


def test_by_default_finishing_is_the_probability_and_nothing_else():
    done = Finish(FinishSettings())(SCORE, "any", None, ENDS)
    np.testing.assert_array_equal(done, probability(SCORE))
    assert done.dtype == np.float64 and np.isnan(done[:, 2]).all()


def test_smoothing_comes_before_the_prior_and_the_prior_before_scaling(folder: Path):
    priors = SitesAndHours(folder, BIRDCLEF_2026, SPECIES)
    settings = FinishSettings(smoothing=0.5, prior_weight=2, file_scaling=0.5)
    done = Finish(settings, priors)(SCORE, HEARD_AT_SITE_1, None, ENDS)
    frog = probability(np.array([0.5, 0.5, -1]) + 2 * moved(2, 2, 0.5))
    assert done[:, 0] == pytest.approx(frog * np.sqrt(frog[0]))
    assert np.isnan(done[:, 2]).all()


def test_file_scaling_keeps_the_order_in_a_soundscape_and_stays_within_the_bounds():
    plain, scaled = (
        Finish(FinishSettings(file_scaling=power))(SCORE, "any", None, ENDS) for power in (0, 1)
    )
    assert scaled[:, :2] == pytest.approx(plain[:, :2] * plain[:, :2].max(axis=0))
    assert (scaled[:, 3] == FLOOR).all()
