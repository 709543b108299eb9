"""Limits of callers, teams and templates: money, rates, answers at once. Reserve the worst case, settle what it was."""
