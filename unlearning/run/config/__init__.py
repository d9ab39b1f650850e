"""Composes the configuration from the command line, and builds its objects."""
