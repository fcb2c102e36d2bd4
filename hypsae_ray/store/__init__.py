"""Folders of a run on any filesystem: tables, manifests, hashes, schemas, usage and progress."""
