"""Embedders and language models, each behind a protocol of `protocols.py`; none knows of Ray.

`load.py` chooses the class of an engine: `sentence_embedder.py`, `vllm/`, `endpoint/` or `keywords.py`. For
them, `locate.py` finds the weights, `identity.py` pins them to a commit, `remote_code.py` checks their code,
and `precision.py` chooses the dtype on a CPU. `embedding.py` is what local embedders share,
`prompts/` what language models are asked; `pool.py` has the copies of a model that share out tasks.
"""
