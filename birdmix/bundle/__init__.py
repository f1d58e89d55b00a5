"""The bundle: all that listening needs of a trained model, in two files without pickle.

``bundle.json`` says what the model is (labels, front end, segment, architecture, versions);
``model.safetensors`` holds its weights.
"""
