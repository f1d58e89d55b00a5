"""The bundle: a folder with all that prediction needs of a trained model, without pickle.

``bundle.json`` describes the model (labels, front end, segment length, architecture, exports);
``model.safetensors`` holds its weights, ``golden.safetensors`` the log-mels of a few windows and
torch's logits for them, ``network-ENGINE.onnx`` an exported network.
"""
