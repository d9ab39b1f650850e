"""Find what is wrong before any work starts."""
