"""Training: the step, the loop on Fabric, checkpoints, validation and loggers."""
