"""Orbit: long jobs that people watch.

A `State` class is run by a worker fleet; its numbered updates reach any number of clients through stateless edges,
with no gap and no repeat, whoever is killed meanwhile.
"""

from __future__ import annotations

__version__ = "0.1.0"
