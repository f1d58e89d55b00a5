"""Recordings: readers by data source, the recordings table, folds, data checks, the demo."""
