"""`hydra/sweeper=compare`: methods with the same number of trials, steps and seeds."""
