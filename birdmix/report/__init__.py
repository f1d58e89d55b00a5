"""Figures of a run's training data and results, and the page for reviewing detected clips."""
