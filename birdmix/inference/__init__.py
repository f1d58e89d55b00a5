"""Prediction of folders of recordings: logits of windows, detections, and tables of them."""
