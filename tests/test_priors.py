"""Priors and post-processing, compared with values computed by hand."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from birdmix.competitions import BIRDCLEF_2021, BIRDCLEF_2024, BIRDCLEF_2025, BIRDCLEF_2026
from birdmix.kaggle.postprocessing import Postprocessor
from birdmix.kaggle.priors import PSEUDO_WINDOWS, SiteAndHourPriors, class_priors
from birdmix.kaggle.settings import PostprocessingSettings
from birdmix.recordings.demo_tables import CODES
from birdmix.windows import MIN_PROBABILITY, logit, probability
from tests.recordings import write_text, write_wave

SPECIES = ("frog", "1e5", "owl", "elsewhere")  # no window is labelled with an owl
NIGHT, NOON = "BC2026_Train_0001_S01_20260511_235957", "BC2026_Train_0002_S02_20260511_120000"
AT_SITE_1 = "BC2026_Test_0009_S01_20260601_120000"


def year_2026(root: Path, rows: list[str]) -> Path:
    """A folder with labels of two soundscapes, and without focal recordings."""
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


def expected_log_odds(count: float, num_present: float, overall: float) -> float:
    """Return the log-odds of an m-estimated rate relative to the overall rate."""
    rate = (num_present + PSEUDO_WINDOWS * overall) / (count + PSEUDO_WINDOWS)
    return float(logit(np.array(rate)) - logit(np.array(overall)))


def test_a_class_prior_is_the_share_of_focal_recordings_with_one_added(tmp_path: Path):
    write_text(tmp_path / "train.csv", "primary_label,filename\nfrog,a\n1e5,b\nfrog,c\nelse,d\n")
    priors = class_priors(tmp_path, BIRDCLEF_2026, ("owl", "frog", "1e5"))
    assert priors == pytest.approx(np.array([1, 3, 2]) / 7)


def test_without_metadata_the_class_priors_are_equal_with_a_warning(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"train_metadata\.csv: no such file; .* 0\.25"):
        assert class_priors(tmp_path, BIRDCLEF_2024, SPECIES).tolist() == [0.25] * 4


def test_a_site_adds_the_log_odds_of_its_rate(folder: Path):
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    added = priors.log_odds(AT_SITE_1, None, np.array([5, 10]))
    expected = [expected_log_odds(2, 2, 3 / 6), expected_log_odds(2, 1, 1 / 6), 0, 0]
    assert added == pytest.approx(np.array([expected, expected]))
    away = priors.log_odds(AT_SITE_1.replace("S01", "S02"), None, np.array([5]))
    assert away == pytest.approx(
        np.array([[expected_log_odds(4, 1, 3 / 6), expected_log_odds(4, 0, 1 / 6), 0, 0]])
    )


def test_an_hour_adds_the_log_odds_of_itself_and_its_neighbours_across_midnight(folder: Path):
    """The middles of the night's windows are at 23:59:59.5 and 00:00:04.5."""
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    frog = {
        hour: priors.log_odds("BC2026_Test_1_S99_x", datetime(2026, 6, 1, hour), np.array([5]))[
            0, 0
        ]
        for hour in (0, 1, 2, 12, 13, 22, 23)
    }
    assert frog[0] == pytest.approx(expected_log_odds(0.75, 0.75, 0.5)) == frog[23]
    assert frog[1] == pytest.approx(expected_log_odds(0.25, 0.25, 0.5)) == frog[22]
    assert frog[12] == pytest.approx(expected_log_odds(2, 0.5, 0.5))
    assert frog[13] == pytest.approx(expected_log_odds(1, 0.25, 0.5))
    assert frog[2] == 0


def test_a_row_belongs_to_the_hour_of_its_middle(folder: Path):
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    added = priors.log_odds("unplaced", datetime(2026, 6, 1, 0, 59, 53), np.array([5, 10]))[:, 0]
    assert added == pytest.approx(
        [expected_log_odds(0.75, 0.75, 0.5), expected_log_odds(0.25, 0.25, 0.5)]
    )


def test_an_unknown_site_or_hour_adds_zero(folder: Path):
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    ends = np.arange(5, 65, 5)
    assert not priors.log_odds("BC2026_Test_1_S99_20260601_120000", None, ends).any()
    assert not priors.log_odds("unplaced", datetime(2026, 6, 1, 6), ends).any()


def test_site_and_hour_are_added_up_and_windows_count_once(folder: Path):
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    noon, ends = datetime(2026, 6, 1, 12), np.array([5])
    both = priors.log_odds(AT_SITE_1, noon, ends)
    apart = priors.log_odds(AT_SITE_1, None, ends) + priors.log_odds("unplaced", noon, ends)
    assert both == pytest.approx(apart)
    assert priors.summary == "6 labelled windows of 2 soundscapes, 2 sites, 3 hours of the day"


def test_log_odds_of_a_site_grow_with_its_number_of_windows(tmp_path: Path):
    log_odds = []
    for count in (1, 2, 4):
        rows = [window(NIGHT, n, "frog") for n in range(count)]
        silent = [window(NOON, n, "") for n in range(count)]  # the overall rate stays a half
        priors = SiteAndHourPriors(
            year_2026(tmp_path / str(count), rows + silent), BIRDCLEF_2026, ["frog"]
        )
        log_odds.append(priors.log_odds(AT_SITE_1, None, np.array([5])).item())
    assert (
        0 < log_odds[0] < log_odds[1] < log_odds[2] == pytest.approx(expected_log_odds(4, 4, 0.5))
    )


def test_the_names_of_2021_give_the_site_and_no_hour(tmp_path: Path):
    write_text(tmp_path / "train_metadata.csv", "primary_label\n1e5\nfrog\n")
    for stem in ("7019_COR_20190904", "10534_SSW_20170429"):
        write_wave(tmp_path / f"train_soundscapes/{stem}.wav", seconds=10)
    write_text(
        tmp_path / "train_soundscape_labels.csv",
        "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,1e5 frog\n"
        "7019_COR_10,COR,7019,10,nocall\n10534_SSW_5,SSW,10534,5,nocall\n",
    )
    priors = SiteAndHourPriors(tmp_path, BIRDCLEF_2021, ("1e5", "frog"))
    expected = [[expected_log_odds(2, 1, 1 / 3)] * 2]
    assert priors.log_odds("28933_COR", None, np.array([5])) == pytest.approx(np.array(expected))
    assert priors.summary == "3 labelled windows of 2 soundscapes, 2 sites, 0 hours of the day"


def test_a_single_soundscape_adds_zero_since_its_rate_is_the_overall_rate(demo: Path):
    priors = SiteAndHourPriors(demo, BIRDCLEF_2026, CODES)
    assert priors.summary == "12 labelled windows of 1 soundscape, 1 site, 1 hour of the day"
    at_its_hour = datetime(2026, 6, 1, 5, 30)
    added = priors.log_odds(
        "BC2026_Test_0001_S01_20260601_053000", at_its_hour, np.arange(5, 65, 5)
    )
    assert added == pytest.approx(np.zeros((12, len(CODES))))


def test_missing_labels_or_soundscapes_are_one_line_errors(folder: Path):
    with pytest.raises(ValueError, match="--prior-weight: birdclef-2025 has no labelled sounds"):
        SiteAndHourPriors(folder, BIRDCLEF_2025, SPECIES)
    with pytest.warns(
        UserWarning, match=rf"in 1 place, first .*{NOON}.wav \(missing: listed in .*, row 4"
    ):
        (folder / f"train_soundscapes/{NOON}.wav").unlink()
        SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    (folder / f"train_soundscapes/{NIGHT}.wav").unlink()
    with pytest.raises(ValueError, match="none of the soundscapes of .* is in train_soundscapes/"):
        SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    (folder / "train_soundscapes_labels.csv").unlink()
    with pytest.raises(ValueError, match=r"train_soundscapes_labels\.csv: no such file"):
        SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)


# ---------------------------------------------------------------- post-processing

ENDS = np.array([5, 10, 15])
LOGITS = np.array([[0, 4, np.nan, -30], [2, 0, np.nan, -20], [-2, 0, np.nan, -25]], np.float32)


def test_by_default_post_processing_is_a_sigmoid():
    result = Postprocessor(PostprocessingSettings())(LOGITS, "any", None, ENDS)
    np.testing.assert_array_equal(result, probability(LOGITS))
    assert result.dtype == np.float64 and np.isnan(result[:, 2]).all()


def test_smoothing_comes_before_the_prior_and_the_prior_before_scaling(folder: Path):
    priors = SiteAndHourPriors(folder, BIRDCLEF_2026, SPECIES)
    settings = PostprocessingSettings(smoothing=0.5, prior_weight=2, file_scaling=0.5)
    result = Postprocessor(settings, priors)(LOGITS, AT_SITE_1, None, ENDS)
    frog = probability(np.array([0.5, 0.5, -1]) + 2 * expected_log_odds(2, 2, 0.5))
    assert result[:, 0] == pytest.approx(frog * np.sqrt(frog[0]))
    assert np.isnan(result[:, 2]).all()


def test_file_scaling_keeps_the_order_in_a_soundscape_and_stays_within_the_bounds():
    plain, scaled = (
        Postprocessor(PostprocessingSettings(file_scaling=power))(LOGITS, "any", None, ENDS)
        for power in (0, 1)
    )
    assert scaled[:, :2] == pytest.approx(plain[:, :2] * plain[:, :2].max(axis=0))
    assert (scaled[:, 3] == MIN_PROBABILITY).all()
