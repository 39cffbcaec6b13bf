"""Sources of completions: transformers, a server that speaks the OpenAI protocol, or vLLM."""
