"""Making models smaller, offline, in a Python that has torch: quantise, prune, distil, search, measure.

Imported by nothing that serves. A job comes in as one JSON document, what it does goes out as JSON lines
(`models.compress.job`), so that the Python of the gateway needs no torch.
"""
