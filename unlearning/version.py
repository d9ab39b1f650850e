"""The package's version; part of the key of every kept result."""

__version__ = "0.11.0"
