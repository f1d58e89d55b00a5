"""``birdmix train``: training of a classifier."""

import typer


def train(context: typer.Context) -> None:
    """Train a classifier, with overrides KEY=VALUE; without any, on a demo of synthetic birds."""
    from birdmix.experiments.training_command import train as run_training

    run_training(context.args)
