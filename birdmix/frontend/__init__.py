"""Front end: log-mel spectrograms of waveforms, and their augmentation in training.

Settings are in a file of their own, without torch, so that bundles can be read without torch.
"""
