"""`orbit demo`: a real job goes on while the worker that runs it, and then an edge, are killed."""

from orbit.cli.demo.command import demo

__all__ = ["demo"]
