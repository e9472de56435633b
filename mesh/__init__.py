"""Knit's floor and roof: events, filters, delivery, plan, the hot path and the command. Importing this imports nothing else."""

__version__ = "0.1.0"
