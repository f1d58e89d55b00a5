"""Train a bird-call classifier. ``python train.py`` trains on a demo; ``--help`` shows the rest."""

import sys

from birdmix.experiments.training_command import train

if __name__ == "__main__":
    train(sys.argv[1:])
