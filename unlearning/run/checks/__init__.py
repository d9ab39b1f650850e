"""Checks of configuration, files, models and devices before any work starts."""
