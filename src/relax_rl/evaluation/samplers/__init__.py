"""Where completions come from: transformers, a server that speaks the OpenAI protocol, or vLLM."""
