"""Models that vLLM loads."""
