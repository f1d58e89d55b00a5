"""Does mixing help? Train the demo without and with it, same folds and seeds, and compare pairs.

    python benchmarks/policies.py [--policies none mixup both] [--seeds 3] [override ...]

Everything but ``mix`` is the default run's; the figures are those of its test soundscapes, last
epoch's average weights. A difference is that of two runs with one seed; its 95 % interval is
Student's over the seeds, so with three of them it is wide. Runs that ``--out`` holds already are
not repeated.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from real_recordings import configured
from scipy import stats

from birdmix.app.run import run

FIGURES = {
    "macro ROC-AUC": "soundscape_macro_roc_auc",
    "padded cmAP": "soundscape_padded_cmap",
}


def figures(policy: str, seed: int, overrides: list[str], directory: Path) -> dict[str, float]:
    """Train one policy with one seed, unless that was done before."""
    done = directory / "metrics.json"
    if not done.is_file():
        run(configured([f"mix={policy}", f"seed={seed}", *overrides]), directory)
    return json.loads(done.read_text())


def interval(differences: np.ndarray) -> float:
    """Return half the width of the 95 % interval of the mean of paired differences."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(stats.t.ppf(0.975, len(differences) - 1) * error)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policies", nargs="+", default=["none", "mixup", "both"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        results = {
            policy: [
                figures(policy, seed, options.overrides, out / f"{policy}-{seed}")
                for seed in range(options.seeds)
            ]
            for policy in options.policies
        }
    for title, name in FIGURES.items():
        print(f"\n{title}, test soundscapes, seeds 0 to {options.seeds - 1}")
        scores = {
            policy: np.array([each[name] for each in runs]) for policy, runs in results.items()
        }
        baseline, *others = scores
        for policy, score in scores.items():
            print(
                f"{policy:12} {'  '.join(f'{each:.4f}' for each in score)}  mean {score.mean():.4f}"
            )
        for policy in others:
            difference = scores[policy] - scores[baseline]
            print(
                f"{policy} - {baseline}: {difference.mean():+.4f} +- {interval(difference):.4f}, "
                f"by seed {'  '.join(f'{each:+.4f}' for each in difference)}"
            )


if __name__ == "__main__":
    main()
