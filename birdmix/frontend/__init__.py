"""From waveforms to log-mel spectrograms, and the masks laid on them in training.

Settings stand in a file of their own, without torch, so that a bundle can be read without it.
"""
