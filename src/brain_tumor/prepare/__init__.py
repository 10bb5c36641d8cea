"""Stage `preprocess`: every image of every source through the one preprocessing, into a store."""
