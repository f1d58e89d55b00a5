"""The classifier: a timm backbone, a head, losses on soft targets, and the optimizer."""
