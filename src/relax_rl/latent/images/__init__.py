"""How images reach a model: read by its processor once a prompt, looked at by its vision part once a prompt."""
