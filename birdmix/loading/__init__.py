"""Loading: from rows of the recordings table to batches; audio stores, samplers, data sets."""
