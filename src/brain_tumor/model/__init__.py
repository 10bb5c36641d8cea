"""The network, its training and its file. The only room that imports TensorFlow."""
