"""The joint model of all hypotheses."""
