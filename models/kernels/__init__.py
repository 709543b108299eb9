"""Triton kernels for GPUs: page-sparse decode attention and products with 4-bit weights.

Each is right in Triton's interpreter on any machine (TRITON_INTERPRET=1, before the first import), which is how it is
tested where there is no GPU; how fast it is says `python -m tests.bench.gpu` where there is one.
"""
