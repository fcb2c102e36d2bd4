"""The user's files and arguments as typed columns: rows, targets, splits, near copies, chunks, vectors."""
