"""Prediction without TensorFlow: the exported classifier, the command line, the server."""
