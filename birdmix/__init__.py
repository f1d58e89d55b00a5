"""birdmix: train bird-call classifiers on mixed recordings, and listen with them."""

__version__ = "0.1.0"
