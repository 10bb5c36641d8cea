"""Stage `download`: a data set from Kaggle, an archive, a folder or a simulation, as verified image files."""
