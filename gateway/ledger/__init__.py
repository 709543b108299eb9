"""The ledger: one charge per request, and the callers' keys, in one database."""
