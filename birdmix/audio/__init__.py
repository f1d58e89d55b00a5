"""Audio files: find, decode, resample, check, augment and write them; synthetic demo recordings."""
