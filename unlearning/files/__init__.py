"""Files: written whole or not at all, made once, with checksums, under locks."""
