"""Check that a linear model on averages over time does not solve the demo.

    python benchmarks/demo_linear.py [--root data/demo]

Fits one logistic regression per species to the time-averaged log-mel spectrum of focal recordings,
and predicts the windows of the test soundscapes. Three pairs of species, twins, have the same
spectrum and differ in order, rhythm or direction only: averages over time hardly separate them.
"""

import argparse
import ast
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from linear import linear_model, log_mel_statistics
from sklearn.metrics import roc_auc_score

from birdmix.audio.decode import decode_recording
from birdmix.audio.synthetic_scenes import WINDOW_SECONDS
from birdmix.audio.synthetic_songs import SAMPLE_RATE, TWINS
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.demo_tables import CODES
from birdmix.recordings.settings import DemoSettings

WINDOW = WINDOW_SECONDS * SAMPLE_RATE

#: Limit on the macro ROC-AUC of the linear model on means over time.
MAX_LINEAR_AUC = 0.85


def demo_statistics(waveform: np.ndarray) -> np.ndarray:
    """Return the log-mel statistics of a waveform [T] at the demo's sample rate, [256]."""
    return log_mel_statistics(waveform, SAMPLE_RATE, keep_level=False)


def focal_segments(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, 256] and labels [N, C] of the 5 s segments of focal recordings."""
    features, targets = [], []
    for row in pd.read_csv(root / "train.csv", dtype={"primary_label": str}).itertuples():
        waveform = decode_recording(root / "train_audio" / str(row.filename), SAMPLE_RATE)
        present = {str(row.primary_label), *ast.literal_eval(str(row.secondary_labels))}
        bounds = np.arange(0, len(waveform) + 1, WINDOW)
        for start, end in pairwise(bounds):
            features.append(demo_statistics(waveform[start:end]))
            targets.append([code in present for code in CODES])
    return np.array(features), np.array(targets)


def test_windows(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [W, 256] and labels [W, C] of the windows of test soundscapes."""
    solution = pd.read_csv(root / "solution.csv", dtype={"row_id": str})
    features = []
    for stem in solution["row_id"].str.rsplit("_", n=1).str[0].unique():
        waveform = decode_recording(root / "test_soundscapes" / f"{stem}.ogg", SAMPLE_RATE)
        features += [demo_statistics(window) for window in waveform.reshape(-1, WINDOW)]
    return np.array(features), solution[CODES].to_numpy(bool)


def predict_logits(train: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Fit one-vs-rest logistic regressions and predict.

    Args:
        train: Features to fit on, [N, D].
        target: Their labels, bool [N, C].
        test: Features to predict, [W, D].

    Returns:
        Logits, [W, C].
    """
    columns = []
    for present in target.T:
        model = linear_model(strength=0.05, class_weight="balanced")
        columns.append(model.fit(train, present).decision_function(test))
    return np.stack(columns, axis=1)


def twin_auc(truth: np.ndarray, logits: np.ndarray, pair: tuple[str, str]) -> float:
    """Return the ROC-AUC of the logit difference of two twins, in windows with one of the two."""
    first, second = (CODES.index(code) for code in pair)
    with_one = truth[:, first] != truth[:, second]
    difference = logits[:, first] - logits[:, second]
    return float(roc_auc_score(truth[with_one, first], difference[with_one]))


def report(title: str, truth: np.ndarray, logits: np.ndarray) -> float:
    """Print the metrics of one model, and return its macro ROC-AUC."""
    by_species = roc_auc_score(truth, logits, average=None)
    print(f"{title}: macro ROC-AUC {by_species.mean():.3f}")
    print(
        "   " + "  ".join(f"{code} {auc:.2f}" for code, auc in zip(CODES, by_species, strict=True))
    )
    for pair in TWINS:
        print(f"   {pair[0]} or {pair[1]}: {twin_auc(truth, logits, pair):.2f}")
    return float(by_species.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    root = parser.parse_args().root

    start = time.perf_counter()
    is_new = ensure_demo(root, DemoSettings())
    origin = f"generated in {time.perf_counter() - start:.1f} s" if is_new else "existed already"
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"{root}: {origin}, {size / 1e6:.1f} MB")

    train, target = focal_segments(root)
    test, truth = test_windows(root)
    present = np.bincount(truth.sum(axis=1), minlength=6)
    print(f"{len(train)} focal segments; {len(test)} test windows with 0, 1, ... birds: {present}")
    num_mels = test.shape[1] // 2
    auc = report(
        "mean over time", truth, predict_logits(train[:, :num_mels], target, test[:, :num_mels])
    )
    report("mean and deviation over time", truth, predict_logits(train, target, test))
    if auc > MAX_LINEAR_AUC:
        raise SystemExit(f"the demo is too easy: ROC-AUC {auc:.3f} is above {MAX_LINEAR_AUC}")


if __name__ == "__main__":
    main()
