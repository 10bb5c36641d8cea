"""The exported classifier: its file, its network, its novelty score and its prediction sets. No TensorFlow."""
