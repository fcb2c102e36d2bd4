"""The pure part: numbers and texts in, numbers and texts out. No Ray, no vLLM, no files, no network."""
