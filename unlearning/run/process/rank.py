"""One rank of a run: `python -m unlearning.run.process.rank <run folder> [--resume]`."""

from __future__ import annotations

import sys
from pathlib import Path

from unlearning.run.process.importing import uncollected

with uncollected():
    from unlearning.run.output.run_folder import load_config
    from unlearning.run.process.spawn import live_and_die_with_parent
    from unlearning.run.start import start


def main() -> None:
    live_and_die_with_parent()
    folder, resume = Path(sys.argv[1]), "--resume" in sys.argv
    sys.exit(start(load_config(folder), folder, resume, checked=True))


if __name__ == "__main__":
    main()
