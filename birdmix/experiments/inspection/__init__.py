"""Inspection of mixes: batches drawn as training draws them, and a page to see and hear them."""
