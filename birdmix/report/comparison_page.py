"""HTML page of a comparison: what the arms show, all tables and forest plots, the runs, the file.

One file that needs no network. Its templates are ``comparison_page.*`` beside this file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdmix.files import write_text
from birdmix.report.comparison_row import ComparisonRow, Verdict, statistics_statement
from birdmix.report.forest_plot import forest_plot_svg, rows_by_panel
from birdmix.report.page_parts import MAX_PAGE_BYTES, escaped, fill_template

_SYMBOLS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "differs": "◆"}
_MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class RunRow:
    """A run of a comparison.

    Attributes:
        arm: Name of the arm.
        replicate: Name of the replicate, such as "data 1, training 1" or "fold 0, seed 1".
        state: "finished", or why there is no value.
        value: The headline metric of this run alone; NaN if there is none.
        seconds_per_step: Median time of an optimizer step; NaN if unknown.
        peak_megabytes: Most memory that was in use; NaN if unknown.
    """

    arm: str
    replicate: str
    state: str
    value: float
    seconds_per_step: float
    peak_megabytes: float


@dataclass(frozen=True)
class ScreeningRow:
    """An arm in the screening, whose runs are not those of the comparison.

    Attributes:
        arm: Name of the arm.
        value: Mean of the screening's metric over its replicates.
        num_replicates: Number of replicates.
        is_chosen: Whether the arm went on to the comparison.
    """

    arm: str
    value: float
    num_replicates: int
    is_chosen: bool


@dataclass(frozen=True)
class ComparisonReport:
    """What the page shows.

    Attributes:
        title: Title, such as the name of the comparison file.
        summary: Lines below the title: arms, replicates, steps, and what the reader must know
            first, such as that arms differ in optimizer steps.
        rows: All rows; arms, test sets, strata and metrics are shown in their order. The first
            stratum of a test set is the one of its forest plots.
        headline: Test set and metric of the first table.
        runs: All runs.
        comparison_file: Text of the comparison file.
        screening: Rows of the screening; () if there was none.
        screening_metric: Title of the screening's metric; "" if there was none.
        memory_title: What ``RunRow.peak_megabytes`` measures, the title of its column.
    """

    title: str
    summary: Sequence[str]
    rows: Sequence[ComparisonRow]
    headline: tuple[str, str]
    runs: Sequence[RunRow]
    comparison_file: str
    screening: Sequence[ScreeningRow] = ()
    screening_metric: str = ""
    memory_title: str = "peak memory, MB"


def write_comparison_page(path: Path, report: ComparisonReport) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        report: What it shows.

    Raises:
        ValueError: If the page would be larger than 40 MB, or the headline has no rows.
    """
    panels = rows_by_panel(report.rows)
    test_sets: dict[str, list[list[ComparisonRow]]] = {}
    for panel in panels:
        test_sets.setdefault(panel[0].test_set, []).append(panel)
    headline = next(
        (panel for panel in panels if (panel[0].test_set, panel[0].metric) == report.headline), None
    )
    if headline is None:
        test_set, metric = report.headline
        raise ValueError(
            f"headline: there are no rows of the metric {metric} on the test set {test_set}"
        )
    sections = [
        _test_set_section(f"set{number}", name, of_set)
        for number, (name, of_set) in enumerate(test_sets.items())
    ]
    links = [(f"set{number}", name) for number, name in enumerate(test_sets)]
    if report.screening:
        links.append(("screening", "screening"))
    links += [("runs", "runs"), ("statistics", "statistics"), ("file", "comparison file")]
    page = fill_template(
        "comparison_page",
        title=escaped(report.title),
        summary="\n".join(f"<p>{escaped(line)}</p>" for line in report.summary),
        contents="\n".join(f'<a href="#{to}">{escaped(text)}</a>' for to, text in links),
        headline=_headline(headline),
        sections="\n".join(sections),
        screening=_screening(report),
        runs=_runs_table(report, headline[0].metric_title),
        statistics="\n".join(
            f"<p>{escaped(text)}</p>" for text in statistics_statement(report.rows)
        ),
        file=escaped(report.comparison_file),
    )
    num_bytes = len(page.encode())
    if num_bytes > MAX_PAGE_BYTES:
        raise ValueError(
            f"{path}: the page would have {num_bytes / 1e6:.0f} MB, more than "
            f"{MAX_PAGE_BYTES / 1e6:.0f}; compare fewer arms, test sets or metrics at a time"
        )
    write_text(path, page)


def _headline(panel: Sequence[ComparisonRow]) -> str:
    first = panel[0]
    return (
        f"<h2>{escaped(first.metric_title)} on {escaped(first.test_set)}"
        f" <small>{escaped(_stratum_and_direction(first))}</small></h2>\n"
        f'<div class="columns">{_rows_table(panel)}<div class="plot">'
        f"{forest_plot_svg(panel, 'headline')}</div></div>"
    )


def _stratum_and_direction(row: ComparisonRow) -> str:
    direction = {
        "higher": "higher is better",
        "lower": "lower is better",
        None: "neither higher nor lower is better",
    }[row.better]
    return f"{row.stratum}; {direction}"


def _test_set_section(anchor: str, name: str, panels: Sequence[Sequence[ComparisonRow]]) -> str:
    """Return a section: the first stratum with forest plots, the others as tables."""
    strata: dict[str, list[Sequence[ComparisonRow]]] = {}
    for panel in panels:
        strata.setdefault(panel[0].stratum, []).append(panel)
    parts = [
        _stratum(stratum, of_stratum, has_plots=number == 0)
        for number, (stratum, of_stratum) in enumerate(strata.items())
    ]
    return f'<section id="{anchor}">\n<h2>{escaped(name)}</h2>\n{"".join(parts)}</section>'


def _stratum(name: str, panels: Sequence[Sequence[ComparisonRow]], *, has_plots: bool) -> str:
    parts = []
    for panel in panels:
        plot = f'<div class="plot">{forest_plot_svg(panel, "section")}</div>' if has_plots else ""
        parts.append(
            f"<h3>{escaped(panel[0].metric_title)} "
            f"<small>{escaped(_stratum_and_direction(panel[0]))}</small></h3>\n"
            f'<div class="columns">{_rows_table(panel)}{plot}</div>'
        )
    counts = _count_verdicts(row for panel in panels for row in panel)
    return (
        f"<details><summary>{escaped(name)} <small>{counts}</small></summary>\n"
        f"{''.join(parts)}</details>\n"
    )


def _count_verdicts(rows: Iterable[ComparisonRow]) -> str:
    """Return how often each verdict occurs, in words; better and worse even if never."""
    verdicts = [row.verdict for row in rows if not row.is_control]
    always: tuple[Verdict, ...] = ("better", "worse", "no difference shown")
    listed = [*always, *sorted(set(verdicts) - set(always))]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in listed)


def _rows_table(panel: Sequence[ComparisonRow]) -> str:
    head = ("arm", "value", "difference", "shown", "95 % interval", "p", "p (Holm)", "n")
    rows = [
        (
            f'<tr class="{row.verdict.split()[0]}">',
            f"<th scope=row>{escaped(row.arm)}</th>",
            f"<td>{_number(row.value, '.3f')}</td><td>{_number(row.difference, '+.3f')}</td>",
            f"<td class=verdict>{_SYMBOLS.get(row.verdict, '')} {row.verdict}</td>",
            f"<td>{_interval(row)}</td><td>{_p_value(row.p)}</td><td>{_p_value(row.p_holm)}</td>",
            f"<td>{_MISSING if row.is_control else row.num}</td></tr>",
        )
        for row in panel
    ]
    return _table(head, ("".join(cells) for cells in rows))


def _interval(row: ComparisonRow) -> str:
    return f"{row.low:+.3f} to {row.high:+.3f}" if np.isfinite(row.low) else _MISSING


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else _MISSING


def _p_value(p: float) -> str:
    return "&lt; 0.0001" if p < 0.0001 else _number(p, ".4f")


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table, which scrolls sideways where the page is narrow."""
    classes = {"shown": " class=verdict", "replicate": " class=text", "state": " class=text"}
    columns = "".join(
        f"<th scope=col{classes.get(title, '')}>{escaped(title)}</th>" for title in head
    )
    body = "\n".join(rows)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _screening(report: ComparisonReport) -> str:
    """Return the section of the screening; "" if there was none."""
    if not report.screening:
        return ""
    rows = (
        f"<tr><th scope=row>{escaped(row.arm)}</th><td>{_number(row.value, '.3f')}</td>"
        f"<td>{row.num_replicates}</td><td>{'compared' if row.is_chosen else ''}</td></tr>"
        for row in report.screening
    )
    table = _table(("arm", report.screening_metric, "replicates", ""), rows)
    return (
        '<section id="screening" class="apart"><h2>Screening: only for choosing arms</h2>\n'
        "<p>Short runs of other data and seeds chose the arms that were compared. The best of many "
        "arms looks better than it is, so nothing is concluded from these values.</p>\n"
        f"{table}</section>"
    )


def _runs_table(report: ComparisonReport, metric_title: str) -> str:
    head = ("arm", "replicate", "state", metric_title, "seconds a step", report.memory_title)
    rows = (
        f"<tr><th scope=row>{escaped(run.arm)}</th><td class=text>{escaped(run.replicate)}</td>"
        f"<td class=text>{escaped(run.state)}</td><td>{_number(run.value, '.3f')}</td>"
        f"<td>{_number(run.seconds_per_step, '.3f')}</td>"
        f"<td>{_number(run.peak_megabytes, ',.0f')}</td></tr>"
        for run in report.runs
    )
    return _table(head, rows)
