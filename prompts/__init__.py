"""What is said to a model: messages, the fixed part of a request, and how an answer is graded. Pure; no I/O."""
