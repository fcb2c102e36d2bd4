"""A seeded generator of reviews with planted concepts, and the comparison of a run with that truth."""
