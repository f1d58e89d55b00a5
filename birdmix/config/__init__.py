"""Configuration: the Hydra schema, composition, error messages, files, and the resume policy."""
