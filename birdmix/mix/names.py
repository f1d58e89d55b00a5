"""The words of a mix's settings, without torch, so that they can be checked before it is needed."""

#: Who shares a gate.
SCOPES = ("batch", "sample")

#: What CutMix cuts.
AXES = ("time", "frequency", "box")

#: How labels are joined; ``label_rules.RULES`` has the rules.
RULE_NAMES = ("convex", "union", "max", "noisy_or", "amplitude")

#: What is done to a sum of waveforms; ``post.POSTS`` has the ways.
POST_NAMES = ("none", "peak_guard", "peak_normalise", "standardise")
