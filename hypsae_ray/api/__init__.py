"""The steps for notebooks."""
