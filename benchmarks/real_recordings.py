"""Benchmark on real recordings: birdmix and a linear model on log-mel statistics, same folds.

    python benchmarks/real_recordings.py experiment=esc10 data.root=ESC-10
    python benchmarks/real_recordings.py experiment=bird_families data.table=birds_family.csv

Each fold is held out once for each of three seeds. The logits of a recording are the mean of its
windows. Nothing is chosen on the held-out fold for birdmix: its metrics are those of the averaged
weights of the last epoch. The linear model uses the best of three regularization strengths, chosen
on the held-out folds, in its favour.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from linear import linear_model, log_mel_statistics

from birdmix.config.composition import compose_config
from birdmix.config.schema import Config
from birdmix.experiments.run import run
from birdmix.loading.audio_store import AudioStore
from birdmix.loading.run_data import open_data
from birdmix.loading.window_dataset import WindowDataset
from birdmix.metrics.ranking import macro_roc_auc, top1_accuracy
from birdmix.recordings.recordings_table import Recordings

STRENGTHS = (0.01, 0.1, 1.0)

#: Top-1 accuracy and macro ROC-AUC.
Metrics = tuple[float, float]


def build_config(overrides: list[str]) -> Config:
    return compose_config(["loggers=[]", *overrides])


def train_network(overrides: list[str], directory: Path) -> Metrics:
    """Train one fold with one seed, and return its metrics."""
    metrics = run(build_config(overrides), directory)
    return metrics["validation_top1_accuracy"], metrics["validation_macro_roc_auc"]


def fit_linear(config: Config) -> dict[float, Metrics]:
    """Fit the linear model to one fold with each strength, and return its metrics."""
    rate = config.frontend.log_mel.sample_rate
    data = open_data(config.data, rate)
    train, classes, _ = extract_features(data.train, data.store, config, rate)
    test, truth, row = extract_features(data.validation["validation"], data.store, config, rate)
    num_classes = len(data.labels)
    results = {}
    for strength in STRENGTHS:
        model = linear_model(strength).fit(train, classes)
        log_proba = np.full((len(test), num_classes), -100.0)  # for classes not in training
        log_proba[:, model.classes_] = model.predict_log_proba(test)
        logits = np.zeros((row.max() + 1, num_classes))
        np.add.at(logits, row, log_proba)
        target = np.zeros_like(logits)
        target[row, truth] = 1
        results[strength] = top1_accuracy(target, logits), macro_roc_auc(target, logits)
    return results


def extract_features(
    recordings: Recordings, store: AudioStore, config: Config, rate: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features [W, 256], class [W] and recording [W] of the validation windows."""
    num_samples = config.frontend.log_mel.seconds_to_num_samples(config.data.segment_seconds)
    windows = WindowDataset(recordings, store, num_samples, rate, config.validation.max_windows)
    batch = windows.__getitems__(windows.keys)
    statistics = np.stack([log_mel_statistics(wave, rate) for wave in batch.examples.x.numpy()])
    assert batch.context.row is not None
    return statistics, batch.examples.target.numpy().argmax(axis=1), batch.context.row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    num_folds = build_config(arguments.overrides).data.num_folds

    by_strength: dict[float, list[Metrics]] = {strength: [] for strength in STRENGTHS}
    by_seed: dict[int, list[Metrics]] = {seed: [] for seed in range(arguments.seeds)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(num_folds):
            overrides = [*arguments.overrides, f"data.fold={fold}"]
            for strength, metrics in fit_linear(build_config(overrides)).items():
                by_strength[strength].append(metrics)
            for seed in by_seed:
                directory = Path(folder) / f"{fold}-{seed}"
                by_seed[seed].append(train_network([*overrides, f"seed={seed}"], directory))
    minutes = (time.monotonic() - began) / 60

    best = max(by_strength, key=lambda strength: float(np.mean(by_strength[strength])))
    print(f"\n{' '.join(arguments.overrides)}: {num_folds} folds, {minutes:.1f} min")
    print(f"{'':24}  top-1   ROC-AUC   top-1 by fold")
    print_row(f"linear model (C={best:g})", by_strength[best])
    for seed, results in by_seed.items():
        print_row(f"birdmix, seed {seed}", results)
    print_row("birdmix, mean of seeds", list(np.mean(list(by_seed.values()), axis=0)))


def print_row(name: str, results: list) -> None:
    top1, auc = np.mean(results, axis=0)
    folds = "  ".join(f"{100 * metrics[0]:.1f}" for metrics in results)
    print(f"{name:24} {100 * top1:5.1f} %   {auc:.4f}   {folds}")


if __name__ == "__main__":
    main()
