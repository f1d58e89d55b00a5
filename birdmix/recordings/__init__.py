"""What recordings there are: readers, the one table, folds, roles; the doctor; the demo."""
