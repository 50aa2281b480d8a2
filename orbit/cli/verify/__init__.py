"""`orbit verify`: a workload, faults on purpose, and the judgement of all that its clients saw."""

from orbit.cli.verify.command import verify

__all__ = ["verify"]
