"""Runs an experiment: configuration, checks, stages, processes, output and tracking."""
