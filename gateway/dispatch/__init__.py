"""The policy between the gateway's decision and an engine: places, a queue, retries, hedges, and which replica."""

from gateway.dispatch.breaker import Breaker, BreakerState
from gateway.dispatch.dispatcher import Discarded, Dispatcher
from gateway.dispatch.places import Shed
from gateway.dispatch.replicas import Replica, replicas_of

__all__ = ["Breaker", "BreakerState", "Discarded", "Dispatcher", "Replica", "Shed", "replicas_of"]
