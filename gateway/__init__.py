"""Sluicegate: a self-hosted, web-managed AI/API gateway."""

__version__ = "0.1.0"
