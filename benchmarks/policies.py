"""Compare mix settings: train the demo with each, with the same folds and seeds.

    python benchmarks/policies.py [--policies none mixup both] [--seeds 3] [override ...]

All settings but ``mix`` are the defaults. The metrics are those of the test soundscapes, with the
average weights of the last epoch. A difference is that of two runs with the same seed; its 95 %
interval is Student's t over the seeds, so it is wide with three of them. Runs that are already in
``--out`` are not repeated.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from real_recordings import build_config
from scipy import stats

from birdmix.experiments.run import run

#: Metrics that are reported: title and name in ``metrics.json``.
METRICS = {
    "macro ROC-AUC": "soundscape_macro_roc_auc",
    "padded cmAP": "soundscape_padded_cmap",
}


def train_and_read_metrics(
    policy: str, seed: int, overrides: list[str], directory: Path
) -> dict[str, float]:
    """Train one policy with one seed, unless that was done before, and return its metrics."""
    metrics_file = directory / "metrics.json"
    if not metrics_file.is_file():
        run(build_config([f"mix={policy}", f"seed={seed}", *overrides]), directory)
    return json.loads(metrics_file.read_text())


def confidence_half_width(differences: np.ndarray) -> float:
    """Return half the width of the 95 % confidence interval of the mean of paired differences."""
    standard_error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(stats.t.ppf(0.975, len(differences) - 1) * standard_error)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=["none", "mixup", "both"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of the runs, kept")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        results = {
            policy: [
                train_and_read_metrics(policy, seed, options.overrides, out / f"{policy}-{seed}")
                for seed in range(options.seeds)
            ]
            for policy in options.policies
        }
    for title, name in METRICS.items():
        print(f"\n{title}, test soundscapes, seeds 0 to {options.seeds - 1}")
        values = {
            policy: np.array([metrics[name] for metrics in runs])
            for policy, runs in results.items()
        }
        baseline, *others = values
        for policy, by_seed in values.items():
            print(
                f"{policy:12} {'  '.join(f'{value:.4f}' for value in by_seed)}  "
                f"mean {by_seed.mean():.4f}"
            )
        for policy in others:
            difference = values[policy] - values[baseline]
            half_width = confidence_half_width(difference)
            print(
                f"{policy} - {baseline}: {difference.mean():+.4f} +- {half_width:.4f}, "
                f"by seed {'  '.join(f'{value:+.4f}' for value in difference)}"
            )


if __name__ == "__main__":
    main()
