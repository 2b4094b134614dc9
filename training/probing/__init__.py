"""Linear probes of the frozen features."""
