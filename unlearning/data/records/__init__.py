"""Records: mappings from column to value, from files, folders and hubs."""
