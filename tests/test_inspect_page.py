"""The page of ``birdmix inspect``: its contents, sounds, images and errors."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from typer.testing import CliRunner

from birdmix.cli.main import app
from birdmix.experiments.inspection import inspect_mixes
from birdmix.experiments.inspection.example_views import BatchViews
from birdmix.experiments.inspection.source_tracing import trace_operators
from birdmix.frontend.settings import LogMelSettings
from birdmix.report import inspection_page
from birdmix.report.histogram_svg import histogram_svg
from birdmix.report.inspection_page import (
    Box,
    ExampleView,
    HistogramView,
    InspectionPage,
    SourceView,
    TargetRow,
    check_page_size,
    render_inspection_page,
)
from birdmix.report.log_mel_image import NUM_COLOURS, log_mel_png
from tests.conftest import SMALL, make_config
from tests.test_inspect_replay import open_replay

VOID = {"meta", "img"}


class Page(HTMLParser):
    """A page as a list of elements, with the texts in them and the elements around them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def all(self, tag: str, css_class: str = "") -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and css_class in ["", *attributes.get("class", "").split()]
        ]

    def text(self, inside: str = "body") -> str:
        return " ".join("".join(text for tags, text in self.texts if inside in tags).split())


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition("base64,")[2], validate=True)


def run_inspect(*arguments: str):
    return CliRunner().invoke(app, ["inspect", *arguments])


def small(demo: Path, *overrides: str) -> list[str]:
    return [*SMALL, f"data.root={demo}", "trainer.max_epochs=2", *overrides]


# Files of sounds and images


def test_the_sounds_of_the_page_are_the_mix_and_its_sources(demo: Path):
    config = make_config(
        *small(demo, "mix=mixup", "mix.mixup_prob=1", "mix.partner_gain_db=[-12,-12]"), "run_dir=."
    )
    replay = open_replay(config)
    replayed = next(replay.replay((0, 0)))
    traced = trace_operators(replayed.applied, replayed.batch.examples.x.shape[1])
    view = BatchViews.of_batch(replay, replayed, traced).view(3)
    mix = replay.waveforms(replayed)[3].numpy()
    decoded, rate = soundfile.read(io.BytesIO(view.sound), dtype="float32")
    assert (rate, len(decoded)) == (config.frontend.log_mel.sample_rate, len(mix))
    sources = [soundfile.read(io.BytesIO(each.sound))[0] for each in view.sources]
    assert max(np.abs(each).max() for each in (decoded, *sources)) == pytest.approx(0.9, abs=0.03)
    # Vorbis leaves errors some 20 dB below the sound; all sounds have one gain.
    gain = decoded @ mix / (mix @ mix)
    error = decoded - gain * mix
    assert 10 * np.log10((decoded @ decoded) / (error @ error)) > 12
    np.testing.assert_allclose(np.sum(sources, axis=0), decoded, atol=0.1)
    source = traced[0].details.source[3]
    for segment, sound, factor in zip(source, sources, (1, 10 ** (-12 / 20)), strict=False):
        original = replayed.batch.examples.x[segment].numpy()
        assert sound @ original / (original @ original) == pytest.approx(gain * factor, rel=0.05)


def test_an_image_shows_low_frequencies_below_and_loud_cells_bright():
    mel = np.zeros((4, 6))
    mel[0, 1] = 10  # the lowest bin
    image = imread(io.BytesIO(log_mel_png(mel)))[..., :3]
    assert image.shape == (4, 6, 3)
    brightness = image.sum(axis=2)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (3, 1)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) <= NUM_COLOURS


def test_an_image_of_silence_is_dark():
    image = imread(io.BytesIO(log_mel_png(np.full((4, 6), -np.inf))))
    assert image[..., :3].max() < 0.05


def test_a_histogram_draws_bars_in_proportion_and_marks_for_promises():
    page = Page(histogram_svg("rates", [0.2, 0.8], [0.4, 0.4], [(0.5, "a"), (1.5, "b")]))
    low, high = (float(bar["height"]) for bar in page.all("rect"))
    assert high == pytest.approx(4 * low, rel=0.01)
    tops = {float(mark["d"].split()[1].split("h")[0]) for mark in page.all("path", "promise")}
    assert len(tops) == 1
    assert [text for tags, text in page.texts if tags[-1] == "text"] == ["80%", "a", "b"]


# The command


def test_the_page_of_a_run_has_players_for_each_mix_and_source(finished_run: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    done = run_inspect(
        f"run={finished_run}", "--out", str(out), "--batches", "4", "--examples", "5"
    )
    assert done.exit_code == 0, done.output
    page = Page(out.read_text(encoding="utf-8"))
    examples, sources = page.all("article", "example"), page.all("figure", "source")
    assert len(examples) == 5
    assert len(sources) >= 10
    audios = page.all("audio")
    assert len(audios) == len(examples) + len(sources)
    assert all(audio["aria-label"] for audio in audios)
    for audio in audios[:3]:
        sound, _ = soundfile.read(io.BytesIO(content(audio["src"])))
        assert len(sound) > 0
    assert all(imread(io.BytesIO(content(each["src"]))).ndim == 3 for each in page.all("img")[:3])
    assert f"Mixes of {finished_run}" in page.text("h1")
    assert "4 batches with 32 examples, from 1:1 on" in page.text()
    kept = re.search(
        r"5 examples, 4 batches; (\d+) of (\d+) promises .* are kept$", done.stdout.strip()
    )
    assert kept is not None
    assert kept[1] == kept[2] == str(len(page.all("p", "verdict")))
    urls = re.findall(r"(?:src|href)=\"(?!data:|#)", out.read_text())
    assert urls == []


def test_the_page_of_a_position_shows_that_batch_again_and_again(
    finished_run: Path, tmp_path: Path
):
    pages = []
    for name in ("one.html", "two.html"):
        done = run_inspect(
            *(f"run={finished_run}", "--out", str(tmp_path / name), "--at", "2:1"),
            *("--batches", "1", "--examples", "2"),
        )
        assert done.exit_code == 0, done.output
        pages.append((tmp_path / name).read_bytes())
    # OGG streams have random serial numbers; all else is equal.
    one, two = (re.sub(rb"data:audio/ogg;base64,[^\"]*", b"", page) for page in pages)
    assert one == two
    titles = [each["aria-label"] for each in Page(pages[0].decode()).all("article", "example")]
    assert all(title.startswith("batch 2:1, example ") for title in titles)


def test_the_same_page_is_written_again(demo: Path, tmp_path: Path):
    for _ in range(2):
        arguments = (*small(demo), "--out", str(tmp_path / "page.html"), "--batches", "1")
        assert run_inspect(*arguments, "--examples", "1").exit_code == 0


def test_a_file_of_others_is_not_replaced(demo: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    done = run_inspect(*small(demo), "--out", str(out), "--batches", "1")
    assert done.exit_code == 2
    assert "page.html" in done.stderr
    assert out.read_text() == "mine"


def test_settings_that_mix_nothing_say_so_on_the_page(demo: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    done = run_inspect(
        *small(demo, "mix=none"), "--out", str(out), "--batches", "2", "--examples", "2"
    )
    assert done.exit_code == 0, done.output
    text = Page(out.read_text()).text()
    assert "these settings mix nothing" in text
    assert "not mixed" in text


def test_the_page_names_the_settings_of_the_mix(demo: Path, tmp_path: Path):
    out = tmp_path / "page.html"
    done = run_inspect(
        *small(demo, "mix=none", "mix.mixup_prob=0.5", "mix.num_sources=[0.5,0.5]"),
        f"data.pools={{noise: {{source: background, root: {demo}/test_soundscapes}}}}",
        "mix.injectors=[{pool: noise, prob: 0.5, snr_db: [3,9]}]",
        *("--out", str(out), "--batches", "1", "--examples", "1"),
    )
    assert done.exit_code == 0, done.output
    assert [text for tags, text in Page(out.read_text()).texts if "code" in tags] == [
        "mix.mixup_prob=0.5",
        "mix.num_sources=[0.5, 0.5]",
        "mix.injectors=[{prob: 0.5, pool: noise, snr_db: [3.0, 9.0]}]",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "3:1"], "--at=3:1: the run has epochs 1 to 2"),
        (["--at", "2:4"], "--at=2:4: an epoch has batches 1 to 3"),
        (["--at", "3"], "--at=3: write EPOCH:BATCH, both counted from 1"),
        (["--rank", "2", "--processes", "2"], "--rank=2: a run of 2 processes has ranks 0 to 1"),
        (["run=nowhere"], "nowhere/config.yaml: no such file"),
        (["mix.mixup_prob=2"], "mix.mixup_prob=2"),
        (["mix.mixup_probb=1"], "mixup_prob"),
        (["data.batch_size=1"], "data.batch_size=1"),
        (["data=folder", "data.root=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(demo: Path, tmp_path: Path, arguments: list[str], message: str):
    out = tmp_path / "page.html"
    done = run_inspect(*small(demo), "--out", str(out), "--batches", "1", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_a_page_above_the_limit_is_refused_before_it_is_written(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspection_page, "MAX_PAGE_BYTES", 1_000_000)
    out = tmp_path / "new" / "page.html"
    done = run_inspect(*small(demo), "--out", str(out), "--examples", "40")
    assert done.exit_code == 2
    assert re.search(r"--examples=40: .* \d+ MB, more than 1; show fewer, for example", done.stderr)
    assert not out.parent.exists()


def test_the_refusal_names_a_number_that_fits():
    with pytest.raises(ValueError, match="--examples=100: .* 80 MB, .* --examples 45"):
        check_page_size(80_000_000, 100)
    check_page_size(40_000_000, 100)


def test_batches_are_not_drawn_beyond_the_end_of_the_run(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "page.html"
    done = run_inspect(*small(demo), "--at", "2:2", "--out", str(out), "--batches", "50")
    assert done.exit_code == 0, done.output
    assert "2 batches with 16 examples, from 2:2 on" in Page(out.read_text()).text()
    assert inspect_mixes.InspectionOptions(out).num_batches == 200


# Names and long lists


def make_page(**changes: object) -> InspectionPage:
    """Return a page with one example."""
    png = log_mel_png(np.zeros((2, 2)))
    source = SourceView("a.ogg", ["Wren"], [("gain", "+0.0 dB")], b"sound", png)
    example: dict = {
        "title": "batch 1:1, example 1",
        "steps": ["mixup"],
        "sound": b"sound",
        "image": png,
        "boxes": [],
        "sources": [source],
        "targets": [TargetRow("Wren", 1.0, True, [1.0])],
        "unknown": [],
        "notes": [],
    }
    page: dict = {
        "title": "Mixes",
        "summary": [],
        "settings": [],
        "note": "",
        "examples_note": "",
        "histograms": [],
        "histograms_note": "",
        "log_mel": LogMelSettings(),
        "seconds": 5.0,
    }
    for name, value in changes.items():
        (page if name in page else example)[name] = value
    return InspectionPage(examples=[ExampleView(**example)], **page)


HOSTILE = "</title><script>alert('1')</script>\" onload=\"x & $js \udcff"


def test_names_are_escaped():
    png = log_mel_png(np.zeros((2, 2)))
    html = render_inspection_page(
        make_page(
            title=HOSTILE,
            summary=[HOSTILE],
            settings=[HOSTILE],
            note=HOSTILE,
            steps=[HOSTILE],
            boxes=[Box((0.1, 0.2), (0.0, 1.0), HOSTILE)],
            sources=[SourceView(HOSTILE, [HOSTILE], [(HOSTILE, HOSTILE)], b"", png)],
            targets=[TargetRow(HOSTILE, 0.5, False, [0.5])],
            unknown=[HOSTILE],
            notes=[HOSTILE],
            histograms=[HistogramView(HOSTILE, [1.0], None, [(0, HOSTILE)], HOSTILE, HOSTILE)],
        )
    )
    html.encode()
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not any("onload" in attributes for _, attributes in page.elements)
    shown = HOSTILE.replace("\udcff", "\ufffd")
    # Title and heading; summary, settings, note, step, box; name, line and numbers of the source;
    # target, unknown class, note; four texts of the histogram.
    assert page.text("html").count(" ".join(shown.split())) == 18


def test_three_hundred_classes_do_not_flood_an_example():
    names = [f"species {n}" for n in range(300)]
    rows = [TargetRow(name, 1 - n / 400, n % 2 == 0, [0.1]) for n, name in enumerate(names)]
    page = Page(render_inspection_page(make_page(targets=rows, unknown=[f"x {n}" for n in names])))
    listed = [
        text
        for tags, text in page.texts
        if "tbody" in tags and "details" not in tags and "th" in tags
    ]
    assert [text.strip() for text in listed if text.startswith("species")] == names[:10]
    folded = page.text("details")
    assert "290 more classes" in folded
    assert "300 more classes are unknown" in folded
    assert "species 299" in folded


def test_a_box_is_drawn_where_it_is():
    box = Box((0.25, 0.5), (0.1, 0.9), "from example 7")
    (span,) = Page(render_inspection_page(make_page(boxes=[box]))).all("span", "box")
    assert span["style"] == "left:25.00%;width:25.00%;bottom:10.00%;height:80.00%"
