"""From predicted probabilities to figures and pictures. Nothing here imports TensorFlow."""
