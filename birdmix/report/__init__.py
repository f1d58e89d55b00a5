"""Pictures of what a run trains on and of what it learned, for people who know birds."""
