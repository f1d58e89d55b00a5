"""A-weighted levels of waveforms: RMS after a filter that nearly ignores rumble, as the ear does.

Wind and traffic below 200 Hz are often louder than the animal in a field recording; a plain RMS
would be theirs. From 1 to 6 kHz the weights are within 1.5 dB of 1.

Shapes: T samples, F frequencies.
"""

import numpy as np
import scipy.fft

# Corner frequencies of A-weighting in Hz, and its gain at 1 kHz, which is divided out.
_CORNERS = (20.598997, 107.65265, 737.86223, 12194.217)
_GAIN_AT_1_KHZ_DB = -2.0


def a_weighting(frequency: np.ndarray) -> np.ndarray:
    """Return the amplitude factors of A-weighting; 1 at 1 kHz.

    Source: IEC 61672-1:2013, annex E.

    Args:
        frequency: Hz, [F].

    Returns:
        float64 [F].
    """
    square = np.square(np.asarray(frequency, np.float64))
    first, second, third, last = np.square(_CORNERS)
    gain = last * np.square(square) / ((square + first) * (square + last))
    return gain / np.sqrt((square + second) * (square + third)) / 10 ** (_GAIN_AT_1_KHZ_DB / 20)


def apply_a_weighting(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Filter a waveform by A-weighting, without a delay; its mean is removed.

    Args:
        waveform: [T].
        sample_rate: Hz.

    Returns:
        float64 [T].
    """
    centred = waveform - np.mean(waveform, dtype=np.float64)
    length = scipy.fft.next_fast_len(len(centred), real=True)
    spectrum = scipy.fft.rfft(centred, length)
    spectrum *= a_weighting(np.fft.rfftfreq(length, 1 / sample_rate))
    return scipy.fft.irfft(spectrum, length)[: len(centred)]


def rms_db(waveform: np.ndarray) -> float:
    """Return the RMS of a waveform [T] in dB relative to full scale 1; -inf for silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 * float(np.log10(power)) if power > 0 else -np.inf
