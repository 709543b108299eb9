"""`make bench`: what a gateway adds to a call, this one and its peers; what a decision takes; what a model does here.

Everything is measured side by side in one run on loopback; processor time is the robust figure, wall-clock times are
disturbed by whatever else the machine does. Every load is bounded in requests and in seconds.
"""
