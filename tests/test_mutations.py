"""The list of mutations fits the code: a mutation that cannot be made tests nothing."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
GROUPS = yaml.safe_load((ROOT / "experiments/mutations/mutations.yaml").read_text("utf-8"))


def test_what_a_mutation_replaces_stands_once_in_its_file() -> None:
    found = {
        f"{group['file']}: {each['what']}": (ROOT / group["file"])
        .read_text("utf-8")
        .count(each["was"])
        for group in GROUPS
        for each in group["mutations"]
    }
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_the_tests_of_a_mutation_exist() -> None:
    files = {test.split("::")[0] for group in GROUPS for test in group["tests"]}
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
