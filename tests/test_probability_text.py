"""The text of probabilities equals that of ``%.6g``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdmix.inference.output.probability_text import format_probabilities
from birdmix.windows import MIN_PROBABILITY

LOWEST, HIGHEST = MIN_PROBABILITY, 1 - MIN_PROBABILITY


def expected(probabilities: np.ndarray) -> list[str]:
    return ["".join(f",{p:.6g}" for p in row) for row in probabilities.tolist()]


@given(st.lists(st.floats(LOWEST, HIGHEST), min_size=1))
def test_any_probability_has_six_significant_digits(values: list[float]):
    probabilities = np.array([values])
    assert format_probabilities(probabilities) == expected(probabilities)


def test_probabilities_of_all_magnitudes_have_six_significant_digits():
    logits = np.random.default_rng(0).uniform(-13.8, 13.8, (200, 500))
    probabilities = np.clip(1 / (1 + np.exp(-logits)), LOWEST, HIGHEST)
    assert format_probabilities(probabilities) == expected(probabilities)


@pytest.mark.parametrize("exponent", range(7))
def test_probabilities_about_a_power_of_ten_have_its_digits(exponent: int):
    power = 10.0**-exponent
    neighbours = np.nextafter(power, [0, 1])
    values = [power, *neighbours, *(power * (1 + part * 1e-8) for part in range(-100, 101))]
    probabilities = np.clip([values], LOWEST, HIGHEST)
    assert format_probabilities(probabilities) == expected(probabilities)


@pytest.mark.parametrize("factor", [1e6, 1e7, 1e8, 1e9, 1e10, 1e11])
def test_probabilities_midway_between_two_numbers_are_rounded_exactly(factor: float):
    middle = (np.arange(100_000, 999_999, 97) + 0.5) / factor
    probabilities = np.stack([middle, np.nextafter(middle, 0), np.nextafter(middle, 1)])
    assert format_probabilities(probabilities) == expected(probabilities)


def test_zeros_at_the_end_are_left_out():
    probabilities = np.array([[0.5, 0.25, 0.1, 0.012, 3e-4], [1e-5, 2.5e-5, 1e-6, 0.123, 0.9]])
    assert format_probabilities(probabilities) == [
        ",0.5,0.25,0.1,0.012,0.0003",
        ",1e-05,2.5e-05,1e-06,0.123,0.9",
    ]
    assert format_probabilities(np.zeros((2, 0))) == ["", ""]
