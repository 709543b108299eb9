"""Better words for one tier, found by trying: examples chosen, instructions rewritten, each tried on cases. Offline.

Knows no models: asking is a function. Learns from a suite's train cases, chooses by its validation cases, and has no
way to the held-out ones. What comes out is a draft; whether it may serve, the gate says.
"""
