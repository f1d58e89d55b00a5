"""Output files of a prediction, a module per format; ``formats`` lists all."""
