"""The application: configuration, builders, the training run, the command line."""
