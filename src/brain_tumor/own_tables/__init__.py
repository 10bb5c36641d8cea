"""The tables that the user writes: data/patients.csv, data/fixes.csv and data/folds.csv."""
