"""What is no command line of one run is refused before Hydra starts."""

from __future__ import annotations

import pytest

from unlearning.errors import ConfigError
from unlearning.run.one_run import check_one_run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo"], "'demo' is no setting.*experiment=demo"),
        (["experiment=demo", "seed=", "1"], "'1' is no setting"),
        (["experiment=demo", "seed=0,1"], "seed=0,1 holds several values.*unlearn -m"),
        (["experiment=demo", "description=a, b"], "several values.*quoted twice"),
        (["experiment=demo,harmful"], "several values"),
        (["sweep.resume=/tmp/x"], "unlearn -m sweep.resume=/tmp/x"),
        (["experiment=demo", "~foo"], "Could not delete"),
        (["experiment=demo", "seed.x=1"], "seed"),
    ],
)
def test_it_is_said_what_to_type(arguments, said):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        check_one_run(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=demo", "--cfg", "job"],
        ["--help"],
        ["sweep.resume=null", "logger=[csv,tensorboard]"],
        ["experiment=demo", "description='a, b'", "hydra.run.dir='a folder, with = in it'"],
        ["experiment=demo", "~data.related"],
    ],
)
def test_what_is_one_run_passes(arguments):
    check_one_run(arguments)
