"""Which neurons, from which texts, in which words, and how true the words are."""
