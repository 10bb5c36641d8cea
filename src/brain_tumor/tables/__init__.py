"""What stages hand to one another: CSV tables, the store of prepared images, and the role of each image in a fold."""
