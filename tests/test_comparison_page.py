"""Rows, forest plot and page of a comparison."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from birdmix.report import comparison_page, style
from birdmix.report.comparison_page import (
    ComparisonReport,
    RunRow,
    ScreeningRow,
    write_comparison_page,
)
from birdmix.report.comparison_row import ComparisonRow, Verdict, statistics_statement
from birdmix.report.forest_plot import draw_forest_plot, forest_plot_svg, rows_by_panel

NAN = float("nan")
MALICIOUS = "<script>alert('\"&$x$')</script>"


def row(
    arm: str = "mixup",
    difference: float = 0.03,
    p_holm: float = 0.01,
    *,
    better: Literal["higher", "lower"] | None = "higher",
    test_set: str = "single windows",
    stratum: str = "all",
    metric: str = "macro_roc_auc",
    method: Literal["student", "bootstrap"] = "student",
) -> ComparisonRow:
    margin = NAN if np.isnan(p_holm) else 0.02
    return ComparisonRow(
        test_set=test_set,
        stratum=stratum,
        metric=metric,
        metric_title=metric.replace("_", " "),
        better=better,
        arm=arm,
        is_control=False,
        value=0.7 + difference,
        control_value=0.7,
        difference=difference,
        low=difference - margin,
        high=difference + margin,
        p=p_holm / 2,
        p_holm=p_holm,
        num=5,
        method=method,
    )


def control(arm: str = "none", **options) -> ComparisonRow:
    return dataclasses.replace(row(arm, NAN, NAN, **options), is_control=True, value=0.7)


def report(rows: list[ComparisonRow], **options) -> ComparisonReport:
    options = {"headline": (rows[0].test_set, rows[0].metric), "runs": (), **options}
    return ComparisonReport("arms.yaml", ["2 arms"], rows, comparison_file="arms: []", **options)


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


# ---- rows


@pytest.mark.parametrize(
    ("difference", "p_holm", "better", "verdict"),
    [
        (0.03, 0.01, "higher", "better"),
        (-0.03, 0.01, "higher", "worse"),
        (-0.03, 0.01, "lower", "better"),
        (0.03, 0.01, "lower", "worse"),
        (0.03, 0.01, None, "differs"),
        (0.03, 0.05, "higher", "no difference shown"),
        (0.03, NAN, "higher", "no interval"),
        (NAN, NAN, "higher", "undefined"),
    ],
)
def test_the_verdict_follows_from_the_adjusted_p_and_the_direction_that_is_better(
    difference: float, p_holm: float, better: Literal["higher", "lower"] | None, verdict: Verdict
):
    assert row("mixup", difference, p_holm, better=better).verdict == verdict


def test_the_control_has_no_verdict_of_its_own():
    assert control().verdict == "control"


def test_the_statement_names_the_statistics_that_were_used():
    student = " ".join(statistics_statement([row()]))
    bootstrap = " ".join(statistics_statement([row(method="bootstrap")]))
    assert "Student" in student and "Student" not in bootstrap
    assert "Hesterberg" in bootstrap and "Hesterberg" not in student
    assert "Holm" in student and "Holm" in bootstrap


# ---- forest plot


def drawn_axes(rows: list[ComparisonRow], path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    """Return the axes of a forest plot."""
    figures: list[Figure] = []
    save = style.save_figure
    monkeypatch.setattr(
        style, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path))
    )
    draw_forest_plot(path, rows, "Difference to none")
    return figures[0].axes


def test_a_forest_plot_has_a_panel_for_each_test_set_stratum_and_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        each
        for metric in ("macro_roc_auc", "brier_score")
        for test_set in ("a", "b")
        for each in (
            control(metric=metric, test_set=test_set),
            row(metric=metric, test_set=test_set),
        )
    ]
    axes = drawn_axes(rows, tmp_path / "forest.png", monkeypatch)
    assert len(axes) == len(rows_by_panel(rows)) == 4
    assert (tmp_path / "forest.png").read_bytes().startswith(b"\x89PNG")


def test_intervals_lie_at_their_arms_in_the_order_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [control(), row("gain", 0.04), row("loss", -0.05), row("tie", 0.0, 1.0)]
    (axes,) = drawn_axes(rows, tmp_path / "forest.png", monkeypatch)
    assert [label.get_text() for label in axes.get_yticklabels()] == [r.arm for r in rows]
    assert axes.yaxis_inverted()  # the first arm is at the top
    intervals = {
        line.get_ydata()[0]: line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2
    }
    for y, each in enumerate(rows[1:], start=1):
        assert intervals[y] == pytest.approx([each.low, each.high])
    low, high = axes.get_xlim()
    assert low < min(r.low for r in rows[1:]) and high > max(r.high for r in rows[1:])


def test_what_is_shown_is_written_and_filled_not_only_coloured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [control(), row("gain", 0.04), row("tie", 0.01, 0.7), row("one", 0.02, NAN)]
    (axes,) = drawn_axes(rows, tmp_path / "forest.png", monkeypatch)
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "0.700 control",
        "+0.040 better",
        "+0.010 no difference shown",
        "+0.020 no interval",
    ]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [face == "#ffffff" for face in faces] == [False, True, True]


def test_thirteen_arms_with_long_names_fit_beside_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [control(), *(row(f"{n} an arm with a very long name of its own") for n in range(12))]
    (axes,) = drawn_axes(rows, tmp_path / "forest.png", monkeypatch)
    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    boxes += [text.get_window_extent(renderer) for text in axes.texts]
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)
    heights = sorted(box.y0 for box in boxes[:13])
    assert min(np.diff(heights)) > max(box.height for box in boxes[:13])  # none overlap


def test_an_svg_has_text_and_the_colours_of_the_page():
    svg = forest_plot_svg([control(), row("mixup")], "x")
    assert svg.startswith("<svg role=") and "mixup</text>" in svg
    assert "var(--ink)" in svg and "var(--accent)" in svg
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]+", svg)


def test_the_svg_of_the_same_rows_is_the_same():
    rows = [control(), row()]
    assert forest_plot_svg(rows, "x") == forest_plot_svg(rows, "x")


# ---- page


def test_the_page_is_one_file_that_loads_nothing(tmp_path: Path):
    path = tmp_path / "comparison.html"
    write_comparison_page(path, report([control(), row()]))
    page = Page(path)
    loaded = [v for name, v in page.attributes if name in ("src", "href") and v and v[0] != "#"]
    assert not loaded and not {"link", "img", "iframe"} & set(page.tags)
    assert "url(http" not in page.text and "@import" not in page.text


def test_the_page_shows_gains_ties_and_losses_alike(tmp_path: Path):
    path = tmp_path / "comparison.html"
    rows = [control(), row("gain", 0.04), row("loss", -0.05), row("tie", 0.001, 1.0)]
    write_comparison_page(path, report(rows))
    cells = [cell.strip() for cell in Page(path).cells]
    for arm, value, difference, shown in (
        ("gain", "0.740", "+0.040", "▲ better"),
        ("loss", "0.650", "-0.050", "▼ worse"),
        ("tie", "0.701", "+0.001", "no difference shown"),
    ):
        place = cells.index(arm)
        assert cells[place + 1 : place + 4] == [value, difference, shown]
    assert cells[cells.index("loss") + 4] == "-0.070 to -0.030"


def test_the_headline_comes_first_and_the_others_are_folded(tmp_path: Path):
    path = tmp_path / "comparison.html"
    rows = [
        each
        for test_set in ("first", "second")
        for stratum in ("all", "2 sources")
        for each in (
            control(test_set=test_set, stratum=stratum),
            row(test_set=test_set, stratum=stratum),
        )
    ]
    write_comparison_page(path, report(rows, headline=("second", "macro_roc_auc")))
    page = Page(path)
    assert "macro roc auc on second" in page.text[: page.text.index("<table")]
    assert page.tags.index("table") < page.tags.index("details")
    assert page.tags.count("summary") == 4 + 1  # the strata of each test set, and the runs
    assert page.tags.count("svg") == 1 + 2  # the headline, and the first stratum of each test set


def test_ids_are_unique_and_links_lead_to_them(tmp_path: Path):
    path = tmp_path / "comparison.html"
    rows = [each for name in ("a", "b") for each in (control(test_set=name), row(test_set=name))]
    write_comparison_page(path, report(rows, screening=[ScreeningRow("mixup", 0.7, 2, True)]))
    page = Page(path)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    links = {v[1:] for n, v in page.attributes if n == "href" and v}
    assert {"set0", "set1", "screening", "runs", "statistics", "file"} <= links <= set(ids)


def test_names_are_escaped(tmp_path: Path):
    path = tmp_path / "comparison.html"
    rows = [
        control(MALICIOUS, test_set=MALICIOUS, stratum=MALICIOUS),
        row("mixup", test_set=MALICIOUS, stratum=MALICIOUS),
    ]
    content = dataclasses.replace(
        report(rows, screening=[ScreeningRow(MALICIOUS, 0.7, 2, False)]),
        title=MALICIOUS,
        summary=[MALICIOUS],
        comparison_file=MALICIOUS,
        screening_metric=MALICIOUS,
        runs=[RunRow(MALICIOUS, MALICIOUS, MALICIOUS, 0.7, 0.1, 100)],
    )
    write_comparison_page(path, content)
    page = Page(path)
    assert page.tags.count("script") == 1  # the page's own
    assert MALICIOUS in page.cells and not [n for n, _ in page.attributes if n.startswith("on")]


def test_the_screening_is_set_apart_and_runs_have_their_state(tmp_path: Path):
    path = tmp_path / "comparison.html"
    runs = [
        RunRow("none", "data 0, training 0", "finished", 0.7, 0.25, 1234),
        RunRow("mixup", "data 0, training 0", "failed: the loss is NaN", NAN, NAN, NAN),
    ]
    screening = [ScreeningRow("mixup", 0.71, 2, True)]
    write_comparison_page(path, report([control(), row()], runs=runs, screening=screening))
    page = Page(path)
    assert "Screening: only for choosing arms" in page.text
    place = page.cells.index("data 0, training 0")
    assert page.cells[place + 1 : place + 5] == ["finished", "0.700", "0.250", "1,234"]
    assert "failed: the loss is NaN" in page.cells


def test_a_comparison_without_screening_has_no_section_of_it(tmp_path: Path):
    path = tmp_path / "comparison.html"
    write_comparison_page(path, report([control(), row()]))
    assert "Screening" not in path.read_text(encoding="utf-8")


def test_a_page_above_40_mb_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparison_page, "MAX_PAGE_BYTES", 10_000)
    path = tmp_path / "comparison.html"
    with pytest.raises(ValueError, match=r"comparison.html: the page would have 0 MB, more than 0"):
        write_comparison_page(path, report([control(), row()]))
    assert not path.exists()


def test_a_headline_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="headline: there are no rows of the metric brier_score"):
        write_comparison_page(
            tmp_path / "x.html",
            report([control(), row()], headline=("single windows", "brier_score")),
        )
