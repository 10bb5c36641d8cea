"""Every figure that matplotlib draws: one style, and the same bytes for the same numbers."""
