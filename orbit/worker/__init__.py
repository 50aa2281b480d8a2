"""Workers: they claim transactions, run their turns, and hand them over."""

from __future__ import annotations

from orbit.worker.config import WorkerConfig
from orbit.worker.discover import load_app
from orbit.worker.worker import WorkerError, run_worker

__all__ = ["WorkerConfig", "WorkerError", "load_app", "run_worker"]
