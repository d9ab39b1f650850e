"""Processes of a run: ranks, start, failures."""
