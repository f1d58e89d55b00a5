"""From rows of the recordings table to batches: stores, segments, samplers and loaders."""
