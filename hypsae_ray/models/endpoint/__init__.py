"""Models of any server with the OpenAI API."""
