"""What the clients ask; the programs for other Pythons and for Node ask the same."""

FRANCE = "What is the capital of France? Answer with one word."
ANN = "Ann is 30 years old."
WEATHER = "What is the weather in Paris?"
# Without it, both models call the tool again and again.
ONCE = "Use a function at most once. When its result is there, answer the user in one sentence."
