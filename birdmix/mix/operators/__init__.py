"""The mix operators, one file each: their settings, and how they draw a plan."""
