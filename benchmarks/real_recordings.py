"""Train on real recordings, beside a linear model on log-mel statistics of the same folds.

    python benchmarks/real_recordings.py experiment=esc10 data.root=ESC-10
    python benchmarks/real_recordings.py experiment=bird_families data.table=birds_family.csv

Each fold is held out once for each of three seeds; a recording counts once, by its windows' mean;
nothing is chosen on the held-out fold: the network's figure is that of the last epoch's average
weights. The linear model gets the best of three strengths, chosen in its favour.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from linear import linear_model, log_mel_statistics

from birdmix.app.configure import compose_config
from birdmix.app.data import open_data
from birdmix.app.run import run
from birdmix.app.schema import Config
from birdmix.loading.judging import Windows
from birdmix.loading.store import Store
from birdmix.metrics.ranking import macro_roc_auc, top1_accuracy
from birdmix.recordings.table import Recordings

STRENGTHS = (0.01, 0.1, 1.0)

#: Top-1 accuracy and macro ROC-AUC.
Figures = tuple[float, float]


def configured(overrides: list[str]) -> Config:
    return compose_config(["loggers=[]", *overrides])


def network(overrides: list[str], directory: Path) -> Figures:
    """Train one fold with one seed."""
    metrics = run(configured(overrides), directory)
    return metrics["validation_top1_accuracy"], metrics["validation_macro_roc_auc"]


def linear(config: Config) -> dict[float, Figures]:
    """Fit the linear model to one fold with each strength."""
    rate = config.frontend.log_mel.sample_rate
    data = open_data(config.data, rate)
    train, classes, _ = features(data.train, data.store, config, rate)
    test, truth, row = features(data.validation["validation"], data.store, config, rate)
    num_classes = len(data.labels)
    results = {}
    for strength in STRENGTHS:
        model = linear_model(strength).fit(train, classes)
        by_window = np.full((len(test), num_classes), -100.0)  # a class without training windows
        by_window[:, model.classes_] = model.predict_log_proba(test)
        score = np.zeros((row.max() + 1, num_classes))
        np.add.at(score, row, by_window)
        target = np.zeros_like(score)
        target[row, truth] = 1
        results[strength] = top1_accuracy(target, score), macro_roc_auc(target, score)
    return results


def features(
    recordings: Recordings, store: Store, config: Config, rate: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features [W, 256], class [W] and recording [W] of the windows validation hears."""
    num_samples = config.frontend.log_mel.num_samples(config.data.segment_seconds)
    windows = Windows(recordings, store, num_samples, rate, config.validation.max_windows)
    batch = windows.__getitems__(windows.keys)
    statistics = np.stack([log_mel_statistics(wave, rate) for wave in batch.x.numpy()])
    return statistics, batch.target.numpy().argmax(axis=1), batch.row.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    num_folds = configured(arguments.overrides).data.num_folds

    by_strength: dict[float, list[Figures]] = {strength: [] for strength in STRENGTHS}
    by_seed: dict[int, list[Figures]] = {seed: [] for seed in range(arguments.seeds)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(num_folds):
            overrides = [*arguments.overrides, f"data.fold={fold}"]
            for strength, figures in linear(configured(overrides)).items():
                by_strength[strength].append(figures)
            for seed in by_seed:
                directory = Path(folder) / f"{fold}-{seed}"
                by_seed[seed].append(network([*overrides, f"seed={seed}"], directory))
    minutes = (time.monotonic() - began) / 60

    best = max(by_strength, key=lambda strength: float(np.mean(by_strength[strength])))
    print(f"\n{' '.join(arguments.overrides)}: {num_folds} folds, {minutes:.1f} min")
    print(f"{'':24}  top-1   ROC-AUC   top-1 by fold")
    show(f"linear model (C={best:g})", by_strength[best])
    for seed, results in by_seed.items():
        show(f"birdmix, seed {seed}", results)
    show("birdmix, mean of seeds", list(np.mean(list(by_seed.values()), axis=0)))


def show(name: str, results: list) -> None:
    top1, auc = np.mean(results, axis=0)
    folds = "  ".join(f"{100 * each[0]:.1f}" for each in results)
    print(f"{name:24} {100 * top1:5.1f} %   {auc:.4f}   {folds}")


if __name__ == "__main__":
    main()
