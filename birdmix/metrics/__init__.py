"""Metrics of multi-label classification: functions of ``(truth, prediction)``, arrays [N, C].

``ranking`` needs only the order of predictions (logits or probabilities), ``threshold_metrics``
compares them with thresholds, and ``calibration`` needs probabilities. ``birdclef_metrics`` has the
competition metrics of 2021 and 2022, which are computed from yes/no decisions.
``validation_metrics`` lists those that validation computes, ``weighted_metrics`` those of a
comparison of runs, for many weightings of the rows at once.

    from birdmix.metrics.ranking import macro_roc_auc

    macro_roc_auc(truth, logits)              # truth is 0 or 1, [N, C]
    macro_roc_auc(truth, logits, known)       # only labels that were annotated count

Conventions: a class without positives has no value and is left out of a macro mean; ``known`` is a
bool mask [N, C] of the labels that were annotated, None being all.
"""
