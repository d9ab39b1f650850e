"""From the command line to a composed configuration and its objects."""
