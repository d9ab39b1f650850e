"""What a run writes: console, run folder, kept results."""
