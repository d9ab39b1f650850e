"""Losses of answer tokens from hidden states and the output head, in chunks."""
