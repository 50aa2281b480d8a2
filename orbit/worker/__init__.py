"""Workers: they claim transactions, run their turns, and hand them over."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orbit.worker.config import WorkerConfig
    from orbit.worker.discover import load_app
    from orbit.worker.worker import WorkerError, run_worker

__all__ = ["WorkerConfig", "WorkerError", "load_app", "run_worker"]

_ROOMS = {"WorkerConfig": "config", "load_app": "discover", "WorkerError": "worker", "run_worker": "worker"}


def __getattr__(name: str) -> Any:
    """Imported when asked for: a process for steps needs next to nothing of a worker, and starts the sooner."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"orbit.worker.{_ROOMS[name]}"), name)
