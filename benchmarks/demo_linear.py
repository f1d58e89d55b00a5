"""Show that the demo is honest: a linear model on averages over time must not solve it.

    python benchmarks/demo_linear.py [--root data/demo]

Fits one logistic regression per species to the time-averaged log-mel spectrum of focal recordings
and scores the windows of the test soundscapes. Three pairs of species share their spectrum and
differ in order or rhythm only, so the averages have little to say about them.
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

from birdmix.audio.decode import decode
from birdmix.audio.songs import SAMPLE_RATE, TWINS
from birdmix.audio.synthesis import WINDOW_SECONDS
from birdmix.recordings.demo import ensure_demo
from birdmix.recordings.demo_tables import CODES
from birdmix.recordings.settings import DemoSettings

WINDOW = WINDOW_SECONDS * SAMPLE_RATE

#: The honesty that the demo promises: macro ROC-AUC of the mean over time.
HIGHEST_LINEAR_AUC = 0.85


def statistics(waveform: np.ndarray) -> np.ndarray:
    return log_mel_statistics(waveform, SAMPLE_RATE, keep_level=False)


def focal_segments(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, 256] and labels [N, C] of the 5 s segments of focal recordings."""
    features, targets = [], []
    for row in pd.read_csv(root / "train.csv", dtype={"primary_label": str}).itertuples():
        waveform = decode(root / "train_audio" / str(row.filename), SAMPLE_RATE)
        present = {str(row.primary_label), *ast.literal_eval(str(row.secondary_labels))}
        bounds = np.arange(0, len(waveform) + 1, WINDOW)
        for start, end in pairwise(bounds):
            features.append(statistics(waveform[start:end]))
            targets.append([code in present for code in CODES])
    return np.array(features), np.array(targets)


def test_windows(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features [W, 256] and labels [W, C] of the windows of test soundscapes."""
    solution = pd.read_csv(root / "solution.csv", dtype={"row_id": str})
    features = []
    for stem in solution["row_id"].str.rsplit("_", n=1).str[0].unique():
        waveform = decode(root / "test_soundscapes" / f"{stem}.ogg", SAMPLE_RATE)
        features += [statistics(window) for window in waveform.reshape(-1, WINDOW)]
    return np.array(features), solution[CODES].to_numpy(bool)


def scores(train: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the logits [W, C] of one-vs-rest logistic regressions."""
    columns = []
    for present in target.T:
        model = linear_model(strength=0.05, class_weight="balanced")
        columns.append(model.fit(train, present).decision_function(test))
    return np.stack(columns, axis=1)


def twin_auc(truth: np.ndarray, score: np.ndarray, pair: tuple[str, str]) -> float:
    """Return how well windows that hold exactly one of two twins are told apart."""
    one, other = (CODES.index(code) for code in pair)
    either = truth[:, one] != truth[:, other]
    return float(roc_auc_score(truth[either, one], (score[:, one] - score[:, other])[either]))


def report(title: str, truth: np.ndarray, score: np.ndarray) -> float:
    """Print the figures of one model and return its macro ROC-AUC."""
    by_species = roc_auc_score(truth, score, average=None)
    print(f"{title}: macro ROC-AUC {by_species.mean():.3f}")
    print(
        "   " + "  ".join(f"{code} {auc:.2f}" for code, auc in zip(CODES, by_species, strict=True))
    )
    for pair in TWINS:
        print(f"   {pair[0]} or {pair[1]}: {twin_auc(truth, score, pair):.2f}")
    return float(by_species.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    root = parser.parse_args().root

    started = time.perf_counter()
    made = ensure_demo(root, DemoSettings())
    took = f"made in {time.perf_counter() - started:.1f} s" if made else "stood there"
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    print(f"{root}: {took}, {size / 1e6:.1f} MB")

    train, target = focal_segments(root)
    test, truth = test_windows(root)
    present = np.bincount(truth.sum(axis=1), minlength=6)
    print(f"{len(train)} focal segments; {len(test)} test windows with 0, 1, ... birds: {present}")
    num_mels = test.shape[1] // 2
    auc = report("mean over time", truth, scores(train[:, :num_mels], target, test[:, :num_mels]))
    report("mean and deviation over time", truth, scores(train, target, test))
    if auc > HIGHEST_LINEAR_AUC:
        raise SystemExit(f"too easy: {auc:.3f} is above {HIGHEST_LINEAR_AUC}")


if __name__ == "__main__":
    main()
