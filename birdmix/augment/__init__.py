"""Augmentation of batches on the training device. Usable without the rest of birdmix.

    from birdmix.augment import PitchShift

    shift = PitchShift(prob=0.5, semitones=[-2, 2], sample_rate=32_000)
    shifted = shift(x, rng=numpy.random.default_rng(0))  # waveforms [B, T]

Each example has random choices of its own, which are drawn by numpy on the host without the data.
The changes are computed for the drawn examples only, on the device of the batch: together on a GPU,
which is never waited for, and side by side in torch's threads on a CPU. Training applies
augmentations in the order of ``AugmentSettings``, after the mix of waveforms; see
``docs/augmentation.md``.

Transforms of audiomentations, one recording at a time in loader processes, are in
``birdmix.audio.augment``.
"""

import lazy_loader

# Names are loaded on first use (__init__.pyi lists them): settings are checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
