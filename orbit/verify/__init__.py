"""What `orbit verify` judges with, and how it disturbs: a client written from the public page alone, judges over plain
traces and logs, plans of faults drawn from a seed, a TCP proxy that fails on purpose.

This room imports nothing else of Orbit, so that it can't share a defect with what it judges.
"""
