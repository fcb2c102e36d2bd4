"""Where the work runs: the only folder that imports ray or vllm."""
