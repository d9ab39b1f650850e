"""`logger`: the loggers beside the run's own files, by name."""

from __future__ import annotations

from unlearning.run.config.schema.kinds import Target

Loggers = dict[str, Target | None]
