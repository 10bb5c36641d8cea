"""Stages `explain`, `novelty` and `robustness`: what the answers of the trained networks rest on."""
