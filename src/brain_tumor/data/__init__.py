"""From a published archive to patient-grouped folds. Nothing here imports TensorFlow."""
