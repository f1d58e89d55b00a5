"""birdmix: training of bird-call classifiers on mixed recordings, and prediction with them."""

__version__ = "0.1.0"
