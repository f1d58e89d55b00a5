"""The linear baseline of networks: logistic regression on log-mel statistics."""

import librosa
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def log_mel_statistics(
    waveform: np.ndarray, sample_rate: int, keep_level: bool = True
) -> np.ndarray:
    """Return mean and standard deviation over time of a log-mel spectrogram, [256].

    Args:
        waveform: Waveform, float32 [T].
        sample_rate: Sample rate in Hz.
        keep_level: Whether the overall level stays in the means. It depends on the distance of a
            bird and not on its species, so the demo's linear model is better without it.
    """
    power = librosa.feature.melspectrogram(y=waveform, sr=sample_rate, hop_length=512, fmin=50)
    decibels = librosa.power_to_db(power, top_db=80)
    level = 0.0 if keep_level else decibels.mean()
    return np.concatenate([decibels.mean(axis=1) - level, decibels.std(axis=1)])


def linear_model(strength: float = 1.0, class_weight: str | None = None) -> Pipeline:
    """Build the model: standardised features, then a logistic regression.

    Args:
        strength: scikit-learn's C, the inverse of the regularisation, above 0.
        class_weight: scikit-learn's class weights: None or ``balanced``.
    """
    regression = LogisticRegression(C=strength, class_weight=class_weight, max_iter=2000)
    return make_pipeline(StandardScaler(), regression)
