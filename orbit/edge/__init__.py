"""The edge: relays the updates of transactions to any number of clients, and takes their messages.

It holds no state that matters: any other edge serves a client as well.
"""

from orbit.edge.admission import Capacity
from orbit.edge.config import EdgeConfig, Pulse
from orbit.edge.rates import RateSettings
from orbit.edge.run import run_edge

__all__ = ["Capacity", "EdgeConfig", "Pulse", "RateSettings", "run_edge"]
