"""What a language model is asked: the wording in `*.txt`, its tokens, and what is shared."""
