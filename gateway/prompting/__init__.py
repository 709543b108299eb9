"""Prompts of the library, as requests name them: which version is meant, and what each model is told then.

Only `naming` is loaded for a request that names none.
"""
