"""`birdmix submit`: six years of submissions, valid whatever the folder and the time hold."""

from pathlib import Path

import pytest

from birdmix.competitions import COMPETITIONS, Competition, competition_of
from tests.recordings import read
from tests.years import write_year

YEARS = pytest.mark.parametrize("competition", COMPETITIONS, ids=lambda each: each.name)


@YEARS
@pytest.mark.parametrize("hidden", [True, False])
def test_a_folder_of_every_year_is_what_the_demo_is(
    demo: Path, tmp_path: Path, competition: Competition, hidden: bool
):
    year = write_year(demo, competition, tmp_path / "data", hidden=hidden)
    assert competition_of(year.folder) is competition
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
        ours, theirs = (each.soundscapes.column(column) for each in (found, expected))
        assert (ours == theirs).all()
