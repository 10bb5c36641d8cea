"""From a trained network to probabilities, activation maps, the exported network and the tables of predictions."""
