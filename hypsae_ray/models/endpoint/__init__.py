"""Models behind a server that speaks the OpenAI API.

`model.py` labels and names, `embedder.py` embeds. Both run on `client.py` (limits, retries), with the
requests and answers of their API: `chat.py`, `embeddings.py`. `server.py` has the URL, the key and openai's
client, `thread.py` the event loop, `throttle.py` the rates, `faults.py` the errors.
"""
