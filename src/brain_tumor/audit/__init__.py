"""What is wrong with a data set or a split: copies, groups, label faults, shortcuts. No TensorFlow here."""
