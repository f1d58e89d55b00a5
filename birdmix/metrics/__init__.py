"""Metrics: plain functions of ``(truth, score)``, numpy arrays [N, C].

``ranking`` asks for an order only, ``decisions`` for yes or no, ``calibration`` for probabilities;
``birdclef`` has the metrics of the years that asked for decisions.
"""
