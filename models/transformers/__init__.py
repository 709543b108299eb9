"""A small server of OpenAI's protocol through transformers: for builds that no other engine loads (NF4, LLM.int8)."""
