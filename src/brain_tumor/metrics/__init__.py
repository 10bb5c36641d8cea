"""Scores, curves and intervals from labels and probabilities. No files, no cohorts, no figures."""
