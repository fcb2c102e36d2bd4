"""Hypotheses from texts with a target, at cluster scale, tested on texts the method never saw."""
