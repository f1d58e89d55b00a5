"""Engines: torch, ONNX Runtime and OpenVINO behind one interface, and export to the latter two."""
