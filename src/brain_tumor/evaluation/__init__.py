"""Stages `validate` and `evaluate`: cohorts, folds, decisions by thresholds, and the comparison of two models."""
