"""Writes the table of architectures in docs/models.md as it is found: `python write_table.py`.

`test_architectures` holds the table to what the models do.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
START, END = "<!-- table: tests/models/write_table.py -->\n", "<!-- end of the table -->\n"
HEAD = "| class | model type | rows | notes |\n|---|---|---|---|\n"


def documented() -> dict[str, dict[str, str]]:
    """The rows of the table by class."""
    table = PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): {"rows": row[2], "notes": row[3]} for row in rows}


def main() -> None:
    from models.architectures import class_name, model_types, tiny_model
    from models.measuring import facts, reason
    from unlearning import UnlearningModule
    from unlearning.errors import ConfigError

    lines = []
    for model_type in model_types():
        model = tiny_model(model_type)
        try:
            UnlearningModule(model, reference="copy")
            row = facts(model)
        except ConfigError as error:
            row = {"rows": "refused", "notes": reason(str(error))}
        lines.append(
            f"| `{class_name(model_type)}` | {model_type} | {row['rows']} | {row['notes']} |\n"
        )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    table = START + HEAD + "".join(sorted(lines, key=str.lower)) + END
    PAGE.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here.parent), str(here.parents[1])]
    main()
