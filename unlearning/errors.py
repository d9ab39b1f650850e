"""Errors that a user's input can cause, and the codes that the command line ends with."""


class ConfigError(ValueError):
    """A setting, a file or a record that the run cannot start with: what was wrong, what was
    expected, what to do."""


FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130  # Ctrl-C; a checkpoint was saved if training had begun
PREEMPTED = 143  # SIGTERM, as a scheduler sends it; likewise
