"""Stages `preprocess` and `external`: every image of a data set through the one preprocessing, into a store."""
