"""How long a test waits for what must come."""

DEADLINE_S = 600
"""Ends a test that hangs; says nothing of how quick anything is, since other processes may have the cores."""
