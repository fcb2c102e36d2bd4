"""Embedders and language models, each behind a protocol of `protocols.py`; none knows of Ray."""
