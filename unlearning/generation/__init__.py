"""Batched generation, and likelihoods of known answers."""
