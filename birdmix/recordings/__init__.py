"""Recordings tables, their readers and folds, and the path from a recording to a batch."""
