"""Sound files in and out: decoding, resampling, encoding, and the synthesis of demo birds."""
