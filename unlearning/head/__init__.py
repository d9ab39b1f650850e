"""Losses of tokens, from hidden states and the output head."""
