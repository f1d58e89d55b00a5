"""The classifier: a timm backbone, a head, the losses on soft targets, the optimizer."""
