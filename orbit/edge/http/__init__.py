"""The HTTP side of an edge."""
