"""Readers of scans: from the content of a file to grey slices."""
