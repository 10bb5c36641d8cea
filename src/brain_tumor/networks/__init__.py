"""What the network is: trunks and heads, pre-trained weights, calibration, and the file of a trained model."""
