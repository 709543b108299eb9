"""vLLM: from a catalogue row to a command, a server, its health and its numbers. Imports neither torch nor vLLM."""
