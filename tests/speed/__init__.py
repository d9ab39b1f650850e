"""`experiments/speed` is no package: its files find each other by name, and so do these tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "speed"))
