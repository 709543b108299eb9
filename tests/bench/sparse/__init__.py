"""`python -m tests.bench.sparse [layer|steps|quality]`, in the Python that has torch: what sparse attention is worth.

`layer` and `steps` measure processor time of vLLM's kernel and of ours side by side in one process; `quality` asks the
definition (`models.sparse.reference`), so that it holds for every kernel that keeps to it.
"""
