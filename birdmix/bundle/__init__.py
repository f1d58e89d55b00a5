"""The bundle: all that listening needs of a trained model, without pickle.

``bundle.json`` says what the model is (labels, front end, segment, architecture, exports);
``model.safetensors`` holds its weights, ``golden.safetensors`` a few windows and what torch says of
them, ``network-ENGINE.onnx`` an exported network.
"""
