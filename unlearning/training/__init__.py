"""What all training modules share: optimizer, schedule, precision, loss of a batch."""
