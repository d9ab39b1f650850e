"""Hugging Face models: loading, checking, adapters and saving."""
