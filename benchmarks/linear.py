"""The linear model that networks are held against: logistic regression on log-mel statistics."""

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
        waveform: float32 [T].
        sample_rate: Hz.
        keep_level: Whether the clip's overall level stays in the means. How far a bird is says
            nothing about who it is, so the demo's linear model is stronger without.
    """
    power = librosa.feature.melspectrogram(y=waveform, sr=sample_rate, hop_length=512, fmin=50)
    decibels = librosa.power_to_db(power, top_db=80)
    level = 0.0 if keep_level else decibels.mean()
    return np.concatenate([decibels.mean(axis=1) - level, decibels.std(axis=1)])


def linear_model(strength: float = 1.0, class_weight: str | None = None) -> Pipeline:
    """Make the model: standardised features, logistic regression (``strength`` is sklearn's C)."""
    regression = LogisticRegression(C=strength, class_weight=class_weight, max_iter=2000)
    return make_pipeline(StandardScaler(), regression)
