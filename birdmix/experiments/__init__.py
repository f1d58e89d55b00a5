"""Training runs, sweeps, hyper-parameter tuning, and tables of runs."""
