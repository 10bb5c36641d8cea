"""Prediction with the exported classifier, without TensorFlow: Python, command line, server and web page."""
