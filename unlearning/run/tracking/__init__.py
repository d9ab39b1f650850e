"""Weights & Biases, CSV and TensorBoard."""
