"""Views of distributions for the page: what was observed, what is promised, and the verdict."""

from collections.abc import Iterator, Sequence

import numpy as np

from birdmix.experiments.inspection.mix_observations import (
    DEFAULT_AUDIBLE_DB,
    PART_EDGES,
    SNR_EDGES,
    MixObservations,
    OperatorObservations,
)
from birdmix.experiments.inspection.mix_promises import chance_interval
from birdmix.report.inspection_page import HistogramView

_PART_TICKS = [(n * 5 + 0.5, f"{n / 4:g}") for n in range(5)]
_SNR_TICKS = [
    (float(np.searchsorted(SNR_EDGES, decibel) - 0.5), f"{decibel:+d} dB" if decibel else "0")
    for decibel in (-30, -15, 0, 15, 30)
]

# Batches whose label masses are compared, and how many standard errors chance allows: 1 of 1,000.
_LEAST_BATCHES, _STANDARD_ERRORS = 20, 3.3


def distribution_views(observations: MixObservations) -> list[HistogramView]:
    """Return the views of all distributions.

    Args:
        observations: What was done in a series of batches.
    """
    views: list[HistogramView] = []
    for name, each in observations.operators.items():
        views += _operator_views(name, each)
    if observations.layers and len(observations.hidden_layers) > 1:
        views.append(_layers_view(observations))
    if observations.source_snr.sum():
        views.append(_source_snr_view(observations))
    views += [_label_mass_view(observations), _audibility_view(observations)]
    views.append(_clipping_view(observations))
    return views


def _operator_views(name: str, each: OperatorObservations) -> Iterator[HistogramView]:
    yield _gate_view(name, each)
    if not each.num_mixed:
        return
    if len({*each.counts, *each.promised_counts}) > 1:
        yield _counts_view(name, each)
    yield _parts_view(name, each)
    if each.own_snr.sum():
        yield _own_snr_view(name, each)


def _gate_view(name: str, each: OperatorObservations) -> HistogramView:
    rate = each.gate_hits / max(each.gate_draws, 1)
    promised = each.gate_sum / max(each.gate_draws, 1)
    what = "batches" if each.operator.scope == "batch" else "examples"
    setting = each.operator.probability_setting
    verdict, is_broken = _compare([rate], [promised], each.gate_draws)
    return HistogramView(
        name=f"{name}: how often",
        observed=[rate, 1 - rate],
        promised=[promised, 1 - promised],
        ticks=[(0.5, "mixed"), (1.5, "not mixed")],
        summary=f"{rate:.1%} of {each.gate_draws:,} {what}, {each.num_mixed:,} examples",
        promise=f"promised: {promised:.1%}, by {setting} and its schedule at this point of the run",
        verdict=verdict,
        is_broken=is_broken,
    )


def _counts_view(name: str, each: OperatorObservations) -> HistogramView:
    counts = sorted({*each.counts, *each.promised_counts})
    num_draws = sum(each.counts.values())
    observed = [each.counts[count] / num_draws for count in counts]
    promised = [each.promised_counts.get(count, 0.0) / num_draws for count in counts]
    verdict, is_broken = _compare(observed, promised, num_draws)
    what = "batches" if each.operator.scope == "batch" else "examples"
    return HistogramView(
        name=f"{name}: number of sources",
        observed=observed,
        promised=promised,
        ticks=[(n + 0.5, str(count)) for n, count in enumerate(counts)],
        summary=f"of {num_draws:,} mixed {what}: "
        + ", ".join(f"{count} in {p:.1%}" for count, p in zip(counts, observed, strict=True)),
        promise="promised: "
        + ", ".join(f"{count} in {p:.1%}" for count, p in zip(counts, promised, strict=True)),
        verdict=verdict,
        is_broken=is_broken,
    )


def _parts_view(name: str, each: OperatorObservations) -> HistogramView:
    centres = (PART_EDGES[1:] + PART_EDGES[:-1]) / 2
    promise = "promised: the line, by the settings of gains"
    return _histogram_view(
        f"{name}: lambda, the part of the mix that is the example itself",
        each.parts,
        each.promised_parts,
        _PART_TICKS,
        f"mean {np.average(centres, weights=each.parts):.2f}",
        promise if each.promised_parts is not None else "no closed form follows from the settings",
    )


def _own_snr_view(name: str, each: OperatorObservations) -> HistogramView:
    matched = each.promised_own_snr is not None
    return _histogram_view(
        f"{name}: level of the example against what was added, measured",
        each.own_snr,
        each.promised_own_snr,
        _SNR_TICKS,
        f"median {_median(each.own_snr):.0f} dB",
        "promised: the line, as levels are matched before the gains"
        if matched
        else "levels follow from the recordings: nothing is promised",
    )


def _source_snr_view(observations: MixObservations) -> HistogramView:
    return _histogram_view(
        "SNR of each source of a waveform mix against all else, measured",
        observations.source_snr,
        None,
        _SNR_TICKS,
        f"median {_median(observations.source_snr):.0f} dB",
        "levels follow from the recordings: nothing is promised",
    )


def _layers_view(observations: MixObservations) -> HistogramView:
    layers = observations.hidden_layers
    total = sum(observations.layers.values())
    observed = [observations.layers[layer] / total for layer in layers]
    promised = [1 / len(layers)] * len(layers)
    verdict, is_broken = _compare(observed, promised, total)
    return HistogramView(
        name="hidden: layer",
        observed=observed,
        promised=promised,
        ticks=[(n + 0.5, layer) for n, layer in enumerate(layers)],
        summary=f"of {total:,} batches: "
        + ", ".join(f"{layer} {p:.0%}" for layer, p in zip(layers, observed, strict=True)),
        promise="promised: all layers alike",
        verdict=verdict,
        is_broken=is_broken,
    )


def _label_mass_view(observations: MixObservations) -> HistogramView:
    before = np.array(observations.label_mass_in)
    after = np.array(observations.label_mass_out)
    highest = max(float(np.ceil(max(before.max(), after.max()) * 2) / 2), 0.5)
    edges = np.linspace(0, highest, 25)
    counts = np.histogram(after, edges)[0]
    promise, verdict, is_broken = _label_mass_promise(observations, after - before)
    return HistogramView(
        name="labels: sum of targets per example, mean of each batch",
        observed=(counts / len(after)).tolist(),
        promised=None,
        ticks=[(n * 12.0, f"{highest * n / 2:g}") for n in range(3)],
        summary=f"{before.mean():.3f} before the mixes, {after.mean():.3f} after them (bars)",
        promise=promise,
        verdict=verdict,
        is_broken=is_broken,
    )


def _label_mass_promise(observations: MixObservations, gain: np.ndarray) -> tuple[str, str, bool]:
    """Return promise, verdict and whether it is broken, for the sum of labels."""
    if not observations.keeps_label_mass:
        return (
            "it depends on which classes meet: nothing is promised, unless all operators share out "
            "labels by parts among the examples of the batch",
            "",
            False,
        )
    promise = "promised: the same before and after, as labels are shared out by parts"
    if len(gain) < _LEAST_BATCHES:
        return promise, "too few batches to compare", False
    error = _STANDARD_ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)) + 1e-4
    is_broken = abs(gain.mean()) > error
    verdict = f"{'differs' if is_broken else 'as promised'}: {gain.mean():+.3f}, "
    return promise, verdict + f"of which chance explains {error:.3f}", bool(is_broken)


def _audibility_view(observations: MixObservations) -> HistogramView:
    rate = observations.num_inaudible / max(observations.num_positives, 1)
    promise, verdict, is_broken = "nothing is promised", "", False
    if observations.silences_inaudible:
        promise = "promised: none, as mix.min_snr_db lets no such source bring a label"
        is_broken = observations.num_inaudible > 0
        verdict = "differs" if is_broken else "as promised"
    return HistogramView(
        name="positives that nobody can hear",
        observed=[],
        promised=None,
        ticks=[],
        summary=f"{observations.num_inaudible:,} of {observations.num_positives:,} positive "
        f"targets ({rate:.2%}): all sources with the label are more than "
        f"{-observations.audible_db:g} dB below the loudest source of their mix",
        promise=f"{promise}; the threshold is mix.min_snr_db, or {DEFAULT_AUDIBLE_DB:g} dB",
        verdict=verdict,
        is_broken=is_broken,
    )


def _clipping_view(observations: MixObservations) -> HistogramView:
    rate = observations.num_clipped / max(observations.num_examples, 1)
    summary = (
        f"{observations.num_clipped:,} of {observations.num_examples:,} waveforms ({rate:.1%}) "
        "have a peak above 1 after mix and augmentation"
    )
    if observations.num_nonfinite:
        summary += f"; {observations.num_nonfinite:,} are not finite and have no loss"
    return HistogramView(
        name="clipped examples",
        observed=[],
        promised=None,
        ticks=[],
        summary=summary,
        promise="training does not limit them: only a file of integers would be clipped; "
        "mix.post=peak_guard scales mixes down to 1",
    )


def _histogram_view(
    name: str,
    counts: np.ndarray,
    promised: np.ndarray | None,
    ticks: Sequence[tuple[float, str]],
    summary: str,
    promise: str,
) -> HistogramView:
    num_draws = int(counts.sum())
    observed = (counts / max(num_draws, 1)).tolist()
    rates = None if promised is None else (promised / max(num_draws, 1)).tolist()
    verdict, is_broken = ("", False) if rates is None else _compare(observed, rates, num_draws)
    return HistogramView(
        name=name,
        observed=observed,
        promised=rates,
        ticks=ticks,
        summary=f"{num_draws:,} draws, {summary}",
        promise=promise,
        verdict=verdict,
        is_broken=is_broken,
    )


def _compare(
    observed: Sequence[float], promised: Sequence[float], num_draws: int
) -> tuple[str, bool]:
    """Compare rates with what is promised, and say in words whether chance explains the rest."""
    if not num_draws:
        return "nothing was drawn", False
    rates, expected = np.array(observed), np.array(promised)
    low, high = chance_interval(expected, num_draws, len(rates))
    outside = (rates < low - 1e-9) | (rates > high + 1e-9)
    if not outside.any():
        return f"as promised, within chance ({num_draws:,} draws)", False
    worst = int(np.argmax(np.abs(rates - expected) * outside))
    return (
        f"differs: {rates[worst]:.1%} where {expected[worst]:.1%} is promised, and chance leaves "
        f"{low[worst]:.1%} to {high[worst]:.1%} of {num_draws:,} draws",
        True,
    )


def _median(counts: np.ndarray) -> float:
    """Return the centre of the bin of ``SNR_EDGES`` that holds the median."""
    at = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return float((SNR_EDGES[at] + SNR_EDGES[at + 1]) / 2)
