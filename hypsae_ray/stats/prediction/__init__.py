"""How well the target is predicted, on rows that the fit left out."""
