"""A search of settings with Optuna: a space, trials, and what Optuna says of them."""
