"""birdmix: training of bird-call classifiers on mixed recordings, and prediction with them.

import birdmix

for record in birdmix.load("runs/first/bundle").predict("recordings"):
    print(record.path, record.detections(threshold=0.5))
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from birdmix.inference.predictor import Predictor, load
    from birdmix.inference.settings import PredictSettings

__version__ = "0.1.0"

__all__ = ["PredictSettings", "Predictor", "load"]

# Names are loaded on first use: the import itself takes a few milliseconds.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "inference.predictor": ["Predictor", "load"],
        "inference.settings": ["PredictSettings"],
    },
)
