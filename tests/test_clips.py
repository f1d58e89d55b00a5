"""``birdmix clips``: choice of detections, clips, spectrograms, and the page."""

import csv
import json
import shutil
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from birdmix.audio.audio_file import AudioError
from birdmix.audio.clip_extraction import PEAK, detection_clip_bounds, extract_clip
from birdmix.audio.decode import decode_recording
from birdmix.cli.main import app
from birdmix.inference.clip_choice import (
    ClipNamer,
    choose_detections,
    choose_spread_values,
    group_detections_by_species,
)
from birdmix.inference.detection_table import DetectionRow, read_detection_table
from birdmix.inference.output.detections_csv import DETECTION_COLUMNS
from birdmix.ownership import LIST
from birdmix.report.clip_figure import spectrogram

RATE = 8000
HEADER = ",".join(DetectionRow._fields[:-1])  # of earlier versions
EVIL = '<b>&"x'
SPECIES = (("eurrob1", "European Robin"), ("wren", ""), ("fire", "Crackling_fire"))


def detection(confidence: float, path: str = "a.wav", start: float = 0.0, species: str = "robin"):
    end = start + 3
    return DetectionRow(
        path, "", "site", start, end, species, species.title(), confidence, start + 1.5
    )


def tone(path: Path, seconds: float = 8.0, rate: int = RATE, level: float = 0.01) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, level * np.sin(2 * np.pi * 1000 * time), rate, subtype="FLOAT")
    return path


def write_prediction(
    folder: Path, rows: list[DetectionRow], recordings: Path | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "detections.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([DetectionRow._fields, *rows])
    if recordings is not None:
        (folder / "run.json").write_text(json.dumps({"folder": str(recordings), "channel": None}))
    return folder


def run_clips(target: Path, out: Path, *options: object) -> Result:
    arguments = ["clips", str(target), "--out", str(out), *map(str, options)]
    return CliRunner().invoke(app, arguments)


def clip_files(out: Path) -> list[str]:
    with (out / "clips.csv").open(newline="", errors="surrogateescape") as stream:
        return [row["file"] for row in csv.DictReader(stream)]


class Page(HTMLParser):
    """The tags, links and text of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.clips: list[dict] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        self.links += [given[name] for name in ("src", "href") if name in given]
        if given.get("class") == "clip":
            self.clips.append(given)

    def handle_data(self, data: str) -> None:
        self.text += data


# Choice of detections.


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_the_chosen_values_are_as_far_apart_as_possible(count: int):
    for seed in range(20):
        values = np.sort(np.random.default_rng(seed).random(9) ** 3)
        best = max(np.diff(some).min() for some in combinations(values, count))
        chosen = choose_spread_values(values, count)
        assert len(chosen) == count
        assert -np.diff(chosen).max() == pytest.approx(best)
        assert (chosen[0], chosen[-1]) == (values[-1], values[0])


def test_the_choice_is_even_over_the_range_of_confidence():
    crowd = [detection(0.3 + 0.1 * n / 1000, start=n) for n in range(1000)]
    sparse = [detection(0.4 + 0.5 * n / 100, start=2000 + n) for n in range(101)]
    confidence = [f.confidence for f in choose_detections([*crowd, *sparse], 7)]
    assert confidence == pytest.approx(np.linspace(0.9, 0.3, 7), abs=0.01)


def test_the_choice_is_even_beside_a_gap_in_the_range():
    crowd = [detection(0.3 + 0.1 * n / 1000, start=n) for n in range(1001)]
    confidence = [f.confidence for f in choose_detections([*crowd, detection(0.9)], 6)]
    assert confidence == pytest.approx([0.9, 0.4, 0.375, 0.35, 0.325, 0.3], abs=1e-3)


def test_the_choice_prefers_recordings_with_fewer_chosen():
    many = [detection(0.5 + n / 1000, path="a.wav", start=n) for n in range(401)]
    others = [
        detection(0.601, path="b.wav"),
        detection(0.702, path="c.wav"),
        detection(0.797, path="d.wav"),
    ]
    paths = [f.path for f in choose_detections([*many, *others], 5)]
    assert paths == ["a.wav", "d.wav", "c.wav", "b.wav", "a.wav"]


def test_the_choice_does_not_depend_on_the_order_of_the_rows():
    rows = [detection(c, path=p, start=s) for c in (0.5, 0.7) for p in "abc" for s in range(4)]
    assert choose_detections(rows, 6) == choose_detections(rows[::-1], 6)
    assert len(set(choose_detections(rows, 6))) == 6


def test_few_detections_are_all_chosen_and_the_most_confident_if_one_is_wanted():
    rows = [detection(c) for c in (0.4, 0.9, 0.6)]
    assert [f.confidence for f in choose_detections(rows, 10)] == [0.9, 0.6, 0.4]
    assert [f.confidence for f in choose_detections(rows, 1)] == [0.9]


def test_names_are_safe_and_different():
    names = ClipNamer()
    rows = [
        detection(0.87, path=p, species=s) for p in ("x/ä:*?.wav", "x/ö:*?.wav") for s in ("ö", "Ü")
    ]
    rows += [detection(0.87, species=s) for s in ("con", "../up", "Robin", "robin", "aux.b")]
    given = [names.name_clip(row) for row in rows]
    assert len({name.lower() for name in given}) == len(given)
    for name in given:
        folder, file = name.split("/")
        assert f"{folder}{file}".isascii()
        assert not set(name) & set('<>:"\\|?*')
        assert folder.split(".")[0].lower() not in ("con", "aux", "", "..")


def test_long_names_are_shortened_to_their_ends_and_different():
    names = ClipNamer()
    rows = [
        detection(0.5, path=f"{n}/{'x' * 99}/20240501.wav", species=s * 300)
        for n in "12"
        for s in "ab"
    ]
    given = [names.name_clip(row).split("/") for row in rows]
    assert len({tuple(each) for each in given}) == len({file for _, file in given}) * 2 == 4
    assert all(len(folder) <= 200 and len(file) <= 80 for folder, file in given)
    assert all(file.endswith("xxx_20240501_0.0s") for _, file in given)


# Clips.


@pytest.mark.parametrize(
    ("span", "peak", "clip"),
    [
        ((10, 13), 10.5, (9, 14)),
        ((0.5, 3.5), 2, (0, 4.5)),
        ((10, 24.5), 11, (9.75, 24.75)),
        ((10, 40), 27.5, (20, 35)),
        ((10, 40), 11.5, (9, 24)),  # it begins with the detection
        ((10, 40), 38.5, (26, 41)),  # it ends with it
        ((0, 30), 1.5, (0, 14)),
    ],
)
def test_a_clip_is_the_padded_detection_or_the_surroundings_of_its_peak(
    span: tuple, peak: float, clip: tuple
):
    assert detection_clip_bounds(*span, peak, 1.0) == clip


def test_the_clip_of_a_long_detection_surrounds_its_peak(tmp_path: Path):
    tone(tmp_path / "audio" / "a.wav", seconds=60)
    long = detection(0.9)._replace(end_seconds=60.0, peak_seconds=42.5)
    target = write_prediction(tmp_path / "predicted", [long], tmp_path / "audio")
    assert run_clips(target, tmp_path / "out").exit_code == 0
    with (tmp_path / "out" / "clips.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["clip_start_seconds"], row["clip_end_seconds"]) == ("35", "50")


def test_a_clip_ends_where_the_recording_does(tmp_path: Path):
    clip = extract_clip(tone(tmp_path / "a.wav", seconds=8), 5, 10)
    assert (clip.begin_seconds, clip.seconds) == (5, 3)


def test_a_clip_is_cut_out_of_a_recording_that_cannot_seek(tmp_path: Path):
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * 8000)
    soundfile.write(tmp_path / "a.wav", noise, 8000, subtype="GSM610")
    clip = extract_clip(tmp_path / "a.wav", 5, 7)
    whole = decode_recording(tmp_path / "a.wav", 8000)[5 * 8000 : 7 * 8000]
    assert np.corrcoef(clip.waveform, whole)[0, 1] > 0.9999
    with pytest.raises(AudioError, match="ends before 11 s"):
        extract_clip(tmp_path / "a.wav", 11, 13)


def test_a_clip_is_levelled_and_states_its_gain(tmp_path: Path):
    clip = extract_clip(tone(tmp_path / "a.wav", level=PEAK / 100), 1, 6)
    assert np.abs(clip.waveform).max() == pytest.approx(PEAK, rel=1e-3)
    assert clip.gain_db == pytest.approx(40, abs=0.1)


def test_silence_stays_silence(tmp_path: Path):
    clip = extract_clip(tone(tmp_path / "a.wav", level=0), 1, 6)
    assert clip.gain_db == 0
    assert not clip.waveform.any()


def test_a_clip_has_the_channel_that_was_predicted(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.tile([0.0, 0.5, -0.5], (4 * RATE, 1)), RATE)
    with pytest.raises(AudioError, match=r"has no channel 4, only 3"):
        extract_clip(tmp_path / "a.wav", 0, 4, channel=4)
    time = np.arange(4 * RATE) / RATE
    frames = np.stack([0 * time, np.sin(2 * np.pi * 1000 * time)], axis=1)
    soundfile.write(tmp_path / "b.wav", frames, RATE)
    assert not extract_clip(tmp_path / "b.wav", 0, 4, channel=1).waveform.any()
    assert extract_clip(tmp_path / "b.wav", 0, 4, channel=2).waveform.any()


def test_sample_rates_that_browsers_may_not_play_are_resampled(tmp_path: Path):
    clip = extract_clip(tone(tmp_path / "a.wav", rate=96_000), 1, 6)
    assert (clip.sample_rate, clip.seconds) == (48_000, 5)


def test_a_tone_is_at_its_frequency_in_the_spectrogram():
    time = np.arange(48_000) / 48_000
    decibel, highest = spectrogram(np.sin(2 * np.pi * 4000 * time).astype(np.float32), 48_000)
    row = decibel.mean(axis=1).argmax()
    assert highest == pytest.approx(16_000, abs=50)
    assert row / (len(decibel) - 1) * highest == pytest.approx(4000, abs=50)


# Output.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings, one broken and one with HTML in its name, their detections and clips."""
    folder = tmp_path_factory.mktemp("clips")
    tone(folder / "audio" / "north" / "20240501_053000.wav")
    tone(folder / "audio" / f"{EVIL}.wav")
    (folder / "audio" / "broken.wav").write_bytes(b"RIFF no")
    rows = [
        detection(0.3 + n / 10, path="north/20240501_053000.wav", start=n / 2) for n in range(6)
    ]
    rows += [detection(0.55, path="broken.wav"), detection(0.45, path="broken.wav", start=3)]
    rows.append(detection(0.9, path=f"{EVIL}.wav", species=EVIL)._replace(deployment=EVIL))
    predicted = write_prediction(folder / "predicted", rows, folder / "audio")
    done = run_clips(predicted, folder / "out", "--per-species", 8)
    assert done.exit_code == 0, done.output
    (folder / "output.txt").write_text(done.output)
    return folder


def test_all_files_that_the_page_links_exist(folder: Path):
    page = Page(folder / "out" / "index.html")
    files = [link for link in page.links if not link.startswith("#")]
    assert len(page.clips) == 7
    assert len(files) == 2 * 7
    assert all((folder / "out" / link).is_file() for link in files)
    written = {p.relative_to(folder / "out").as_posix() for p in (folder / "out").rglob("*.*")}
    assert written == {*files, "index.html", "clips.csv", LIST}


def test_names_are_shown_as_text_and_never_as_tags(folder: Path):
    page = Page(folder / "out" / "index.html")
    assert page.tags.count("b") == len(page.clips)  # its confidence, and no name
    assert page.text.count(EVIL.title()) == 2  # in the contents and atop its clips
    evil = page.clips[0]
    assert (evil["data-species"], evil["data-path"]) == (EVIL, f"{EVIL}.wav")


def test_the_page_needs_no_network(folder: Path):
    text = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "$" not in text.split("<script>")[0]


def test_clips_contain_the_detection_and_a_second_around_it(folder: Path):
    with (folder / "out" / "clips.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 7
    for row in rows:
        info = soundfile.info(folder / "out" / row["file"])
        begin, end = float(row["clip_start_seconds"]), float(row["clip_end_seconds"])
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", RATE)
        assert info.duration == end - begin
        assert begin == max(float(row["start_seconds"]) - 1, 0)
        assert end == min(float(row["end_seconds"]) + 1, 8)


def test_a_broken_recording_loses_its_own_clips_only_and_is_reported(folder: Path):
    lines = (folder / "output.txt").read_text().splitlines()
    (warning,) = (line for line in lines if line.startswith("warning"))
    assert "broken.wav: " in warning
    assert warning.endswith("2 clips left out")
    assert lines[-1].endswith("(7 clips of 2 species)")


def test_clips_of_some_species_can_be_cut(folder: Path):
    done = run_clips(folder / "predicted", folder / "one", "--species", EVIL)
    assert done.exit_code == 0, done.output
    assert len(Page(folder / "one" / "index.html").clips) == 1


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("EURROB1", "eurrob1"),
        ("european ROBIN", "eurrob1"),
        ("Erithacus rubecula_European Robin", "eurrob1"),
        ("eurrob1_Rotkehlchen", "eurrob1"),
        ("crackling_fire", "fire"),
        ("123_Crackling_Fire", "fire"),
        ("wren_", "wren"),
    ],
)
def test_species_are_found_by_code_or_name_in_any_spelling(wanted: str, code: str):
    rows = [detection(0.5, species=code)._replace(common_name=name) for code, name in SPECIES]
    assert list(group_detections_by_species(rows, [wanted])) == [code]


@pytest.mark.parametrize("wanted", ["robin_", "_", "Erithacus rubecula", "Garden fire"])
def test_a_part_of_a_name_is_no_match(wanted: str):
    rows = [detection(0.5, species=code)._replace(common_name=name) for code, name in SPECIES]
    with pytest.raises(ValueError, match=f"--species='{wanted}': no detections of it"):
        group_detections_by_species(rows, [wanted])


def test_species_that_share_a_name_are_all_kept():
    rows = [
        detection(0.5, species=code)._replace(common_name="Insect") for code in ("s2", "s1", "s3")
    ]
    assert list(group_detections_by_species(rows, ["insect"])) == ["s1", "s2", "s3"]
    assert list(group_detections_by_species(rows, ["S2"])) == ["s2"]


def test_an_unknown_species_is_answered_with_the_nearest_name(folder: Path):
    done = run_clips(folder / "predicted", folder / "none", "--species", "robn")
    assert done.exit_code == 2
    assert "did you mean 'robin'?" in done.output
    assert not (folder / "none").exists()


def test_a_folder_that_is_not_empty_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run_clips(folder / "predicted", tmp_path)
    assert done.exit_code == 2
    assert "it is not empty" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("out", ["clips", "north/clips", "../audio/clips"])
def test_clips_are_not_written_among_the_recordings(folder: Path, out: str):
    before = sorted(folder.rglob("*"))
    done = run_clips(folder / "predicted", folder / "audio" / out)
    assert done.exit_code == 2
    assert "where clips would be predicted as recordings" in done.output
    assert sorted(folder.rglob("*")) == before


def test_moved_recordings_need_the_option_recordings(folder: Path, tmp_path: Path):
    moved = write_prediction(
        tmp_path / "predicted", [detection(0.5, path="a.wav")], tmp_path / "gone"
    )
    done = run_clips(moved, tmp_path / "out")
    assert done.exit_code == 2
    assert "--recordings" in done.output
    tone(tmp_path / "here" / "a.wav")
    done = run_clips(moved, tmp_path / "out", "--recordings", tmp_path / "here")
    assert done.exit_code == 0, done.output


# Input.


def test_the_columns_are_those_of_detections_csv():
    assert DetectionRow._fields == DETECTION_COLUMNS


def test_the_peak_in_a_table_without_that_column_is_the_middle(tmp_path: Path):
    (tmp_path / "d.csv").write_text(f"{HEADER}\na.wav,,site,0,30,robin,Robin,0.5\n")
    (old,) = read_detection_table(tmp_path / "d.csv").rows
    assert old.peak_seconds == 15
    (tmp_path / "d.csv").write_text(f"{HEADER},peak_seconds\na.wav,,site,0,30,robin,Robin,0.5,7.5")
    (new,) = read_detection_table(tmp_path / "d.csv").rows
    assert new.peak_seconds == 7.5


def test_parts_are_read_as_one(tmp_path: Path):
    for number in range(2):
        rows = [detection(0.5, path=f"{number}.wav")]
        write_prediction(tmp_path / f"part-000{number + 1}-of-0002", rows, tmp_path)
    predicted = read_detection_table(tmp_path)
    assert [f.path for f in predicted.rows] == ["0.wav", "1.wav"]
    assert predicted.folder == tmp_path


def test_missing_parts_are_reported(tmp_path: Path):
    tone(tmp_path / "audio" / "a.wav")
    out = tmp_path / "predicted"
    write_prediction(out / "part-0002-of-0003", [detection(0.5)], tmp_path / "audio")
    done = run_clips(out, tmp_path / "clips")
    assert done.exit_code == 0
    assert "warning: " in done.output and "only 1 of 3 parts have ended" in done.output


def test_parts_may_have_different_folders_of_recordings(tmp_path: Path):
    tone(tmp_path / "audio" / "a.wav")
    out = tmp_path / "predicted"
    for number in "12":
        write_prediction(
            out / f"part-000{number}-of-0002", [detection(0.5)], tmp_path / f"node{number}"
        )
    assert "with --recordings" in run_clips(out, tmp_path / "clips").output
    done = run_clips(out, tmp_path / "clips", "--recordings", tmp_path / "audio")
    assert done.exit_code == 0, done.output


def test_parts_of_different_channels_are_refused(tmp_path: Path):
    for number in (1, 2):
        part = write_prediction(tmp_path / f"part-000{number}-of-0002", [detection(0.5)], tmp_path)
        (part / "run.json").write_text(json.dumps({"folder": "x", "channel": number}))
    with pytest.raises(ValueError, match="its parts are of different channels; name the table"):
        read_detection_table(tmp_path)


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path):
    row = "a.wav;;site;0,5;3,5;robin;Robin;0,75"
    (tmp_path / "d.csv").write_text(f"\ufeff{HEADER.replace(',', ';')}\r\n{row}\r\n", "utf-8")
    assert read_detection_table(tmp_path / "d.csv").rows == [detection(0.75, start=0.5)]
    text = f"{HEADER.replace(',', chr(9))}\r\n{row.replace(';', chr(9))}\r\n"
    (tmp_path / "d.csv").write_text(text, "utf-16")
    assert read_detection_table(tmp_path / "d.csv").rows == [detection(0.75, start=0.5)]


def test_a_table_saved_by_r_is_read(tmp_path: Path):
    header = ",".join(f'"{name}"' for name in ("", *HEADER.split(",")))
    row = '"1","a.wav",NA,"site",0,3,"robin","Robin",5e-04'
    (tmp_path / "d.csv").write_text(f"{header}\n{row}\n", "utf-8")
    assert read_detection_table(tmp_path / "d.csv").rows == [detection(5e-4)]


def test_a_path_with_accents_is_found_in_either_unicode_form(tmp_path: Path):
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}.wav"
    on_disk = "cafe\N{COMBINING ACUTE ACCENT}.wav"
    tone(tmp_path / "audio" / on_disk)
    out = write_prediction(tmp_path / "predicted", [detection(0.5, path=name)], tmp_path / "audio")
    assert [each.path for each in read_detection_table(out).rows] == [on_disk]
    assert run_clips(out, tmp_path / "clips").exit_code == 0


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_recording_whose_name_is_not_utf_8_is_cut_like_others(tmp_path: Path, suffix: str):
    here = tmp_path / "audio"
    time = np.arange(20 * RATE) / RATE
    here.mkdir()
    soundfile.write(here / f"a.{suffix}", np.sin(2 * np.pi * 1000 * time), RATE)
    try:
        shutil.copy(here / f"a.{suffix}", here / f"caf\udce9.{suffix}")
    except OSError:
        pytest.skip("this file system takes no such name")
    rows = "".join(f"{path}.{suffix},,site,16,19,robin,Robin,0.5\n" for path in ("a", "caf\udce9"))
    (tmp_path / "d.csv").write_text(f"{HEADER}\n{rows}", "utf-8", "surrogateescape")
    done = run_clips(tmp_path / "d.csv", tmp_path / "out", "--recordings", here)
    assert done.exit_code == 0 and "warning" not in done.output, done.output
    clips = Page(tmp_path / "out" / "index.html").clips
    assert [clip["data-path"] for clip in clips] == [f"a.{suffix}", f"caf\ufffd.{suffix}"]
    one, other = ((tmp_path / "out" / file).read_bytes() for file in clip_files(tmp_path / "out"))
    assert one == other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("path,score\na.wav,1\n", "no column 'datetime'"),
        (HEADER, "no detections; predict with a lower --threshold"),
        (f"{HEADER}\na.wav,,s,0,3,robin,Robin,0.5\na.wav,,s,0", "row 3: 4 cells for 8 columns"),
        (f"{HEADER}\na.wav,,s,x,3,robin,Robin,0.5", "row 2: start_seconds 'x' is not a number"),
        (f"{HEADER}\na.wav,,s,5,3,robin,Robin,0.5", "row 2: start 5 and end 3 need"),
        (f"{HEADER}\na.wav,,s,0,3,robin,Robin,nan", "row 2: confidence nan is not within"),
        (f"{HEADER},peak_seconds\na.wav,,s,0,3,robin,Robin,0.5,4", "row 2: peak_seconds 4 is not"),
        (f"{HEADER}\n,,s,0,3,robin,Robin,0.5", "row 2: path and species must not be blank"),
        ("RIFF\x01\x00\x02", "not a table of detections"),
    ],
)
def test_a_damaged_or_wrong_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "d.csv").write_text(text)
    done = run_clips(tmp_path / "d.csv", tmp_path / "out")
    (line,) = done.output.splitlines()
    assert done.exit_code == 2
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [("none.csv", "no such file or folder"), (".", "no detections.csv here")],
)
def test_a_missing_table_is_refused(tmp_path: Path, target: str, message: str):
    done = run_clips(tmp_path / target, tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize("path", ["../a.wav", "x/../../a.wav", "/etc/passwd", ".", "x/.."])
def test_a_path_outside_of_the_recordings_is_refused(tmp_path: Path, path: str):
    tone(tmp_path / "a.wav")
    tone(tmp_path / "in" / "b.wav")
    target = write_prediction(
        tmp_path / "out", [detection(0.5, "b.wav"), detection(0.9, path)], tmp_path / "in"
    )
    done = run_clips(target, tmp_path / "clips")
    (line,) = done.output.splitlines()
    assert done.exit_code == 2
    assert (
        f"detections.csv, row 3: path '{path}' lies outside of the folder of the recordings" in line
    )
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"folder": ',
        "[" * 100_000,
        "[]",
        "{}",
        '{"folder": 5}',
        '{"folder": "f", "channel": 1e999}',
    ],
)
def test_a_damaged_run_json_is_refused(tmp_path: Path, text: str):
    write_prediction(tmp_path, [detection(0.5)])
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json: damaged .*--recordings"):
        read_detection_table(tmp_path)
