"""Judges routers on tables of outcomes, offline: reads tables, fits estimators, measures them. Needs the extra `fit`.

Nothing that serves imports this package.
"""
