"""The questions to a language model: wording in `*.txt`, token ids and their lengths, the guard."""
