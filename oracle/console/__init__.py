"""Loopback HTTP: health, readiness, metrics."""
