"""Errors that a user's input can cause, and the exit codes of the command line."""


class ConfigError(ValueError):
    """Raised for a setting, file or record that a run cannot start with: says what was wrong,
    what was expected, and what to do."""


class RequirementError(RuntimeError):
    """Raised when a stage did not reach what the configuration requires for the run to go on.

    Its message says what was measured, what was required, and what to change.
    """


FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130  # Ctrl-C; a checkpoint was saved if training had begun
PREEMPTED = 143  # SIGTERM, as a scheduler sends it; likewise
