"""The same no-op as a job of Orbit's peers, each as its own documentation shows it."""
