"""Metrics: plain functions of ``(truth, score)``, numpy arrays [N, C]."""
