"""Kaggle competitions: submissions, their scores, and the offline kit for a notebook."""
