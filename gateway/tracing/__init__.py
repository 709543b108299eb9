"""Spans of requests, for a collector that the operator names; where none is named nothing of this is imported."""
