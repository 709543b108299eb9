"""`python -m tests.bench.gpu`: what the kernels of `models.kernels` take on a GPU; needs torch and Triton, not vLLM."""
