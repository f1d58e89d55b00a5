"""Text of many probabilities at a time, equal to that of ``%.6g`` and several times as fast.

The text of each probability is two words of eight characters, computed as integers; characters that
it does not need are NUL, and taken out at the end.

Shapes: W windows, C classes, N = W x C.
"""

import numpy as np

# Below these, a probability has one more zero between the point and its first digit.
_BOUNDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

# By the number of zeros: the factor that makes six digits before the point, ...
_FACTORS = np.array([1e6, 1e7, 1e8, 1e9, 1e10, 1e11])

# ... and the text before the digits, or behind them if it is an exponent, as of four zeros.
_NUM_FIXED = 4
_BEFORE = (b",0.", b",0.0", b",0.00", b",0.000")
_BEHIND = (b"e-05", b"e-06")

# Digits nearer than this to the middle between two numbers are left to ``%.6g``, which is exact.
_UNCERTAIN = 1e-6


def _words(texts: list[bytes]) -> np.ndarray:
    """Return texts as integers, whose lowest byte is the first character."""
    return np.array([int.from_bytes(text, "little") for text in texts], np.uint64)


_AFFIXES = _words([*_BEFORE, *_BEHIND])
_THREE_DIGITS = _words([b"%03d" % number for number in range(1000)])
_LAST_DIGITS = _words([(b"%03d" % number).rstrip(b"0") for number in range(1000)])


def format_probabilities(probabilities: np.ndarray) -> list[str]:
    """Format probabilities with six significant digits.

    Args:
        probabilities: Float64 [W, C], within [MIN_PROBABILITY, 1 - MIN_PROBABILITY].

    Returns:
        For each window the text of its probabilities, each with a comma before it.
    """
    flat = probabilities.ravel()
    num_zeros = np.zeros(len(flat), np.intp)
    for bound in _BOUNDS:
        num_zeros += flat < bound
    scaled = flat * _FACTORS[num_zeros]
    rounded = np.rint(scaled)
    is_uncertain = np.abs(np.abs(scaled - rounded) - 0.5) < _UNCERTAIN
    is_uncertain |= rounded > 999_999  # these have one zero less
    words = _text_words(np.where(is_uncertain, 0, rounded).astype(np.int64), num_zeros)
    for at in np.flatnonzero(is_uncertain):
        text = b",%.6g" % flat[at]
        words[at] = _words([text[:8], text[8:]])
    rows = words.reshape(len(probabilities), -1)
    return [row.tobytes().translate(None, b"\0").decode("ascii") for row in rows]


def _text_words(number: np.ndarray, num_zeros: np.ndarray) -> np.ndarray:
    """Return the texts of numbers of six digits, by their zeros after the point, uint64 [N, 2]."""
    first = number // 1000
    last = number - 1000 * first
    first = np.where(last == 0, _LAST_DIGITS[first], _THREE_DIGITS[first])
    digits = first | (_LAST_DIGITS[last] << 24)
    words = np.empty((len(number), 2), "<u8")
    words[:, 0], words[:, 1] = _AFFIXES[num_zeros], digits
    (small,) = np.nonzero(num_zeros >= _NUM_FIXED)
    digits = digits[small]
    others = digits >> 8
    point = np.where(others != 0, np.uint64(ord(".")), np.uint64(0))
    words[small, 1] = words[small, 0]
    words[small, 0] = ord(",") | (digits & 0xFF) << 8 | point << 16 | others << 24
    return words
