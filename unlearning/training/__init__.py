"""What every training module shares."""
