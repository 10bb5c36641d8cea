"""Stage `train`: augmentation, optimisation, checkpoints, and the recipe from images to a calibrated classifier."""
