"""Hugging Face models: load, check, adapt and save."""
