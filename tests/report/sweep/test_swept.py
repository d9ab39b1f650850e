from __future__ import annotations

import yaml

from unlearning.report.sweep.folder import read_sweep_folder
from unlearning.report.sweep.swept import UNSET, command, find_swept

from .sweeps import FORGET, RETAIN, grid, harm_metrics, plain_config, write_sweep

OK = harm_metrics(0.1, 1.0)


def test_a_grid_has_its_keys_seeds_and_fixed_words(read):
    sweep = read(grid())
    swept = find_swept(sweep)
    assert [(key.path, key.label, key.values) for key in swept.keys] == [
        (FORGET, "forget.weight", ("0.1", "0.25", "0.5")),
        (RETAIN, "retain.weight", ("1", "5", "15")),
    ]
    assert [(key.path, key.values) for key in swept.seeds] == [("seed", ("0", "1", "2"))]
    assert swept.fixed == ("experiment=demo",)
    assert swept.of(sweep.jobs[5], swept.keys) == ("0.1", "5")


def test_the_command_is_what_the_job_was_started_with(read):
    words = ["experiment=demo", "name=two words", "hydra.run.dir=x", "sweep.name=y", "seed=1"]
    sweep = read([(words, OK, "finished"), (["seed=2"], OK, "finished")])
    swept = find_swept(sweep)
    assert command(sweep, swept, sweep.jobs[0]) == "unlearn experiment=demo 'name=two words' seed=1"


def test_without_a_record_keys_come_from_the_configurations(read):
    """The seed that is handed down is no key of its own, nor is the run's own folder."""
    sweep = read(grid(), record=False)
    swept = find_swept(sweep)
    assert [key.path for key in swept.keys] == [FORGET, RETAIN]
    assert [(key.path, key.also) for key in swept.seeds] == [
        ("seed", ("data.seed", "data.forget.seed"))
    ]


def test_hydras_record_completes_the_command(tmp_path):
    write_sweep(tmp_path, grid(seeds=(0, 1)), record=False)
    typed = ["experiment=demo", f"{FORGET}=0.1,0.25,0.5", f"{RETAIN}=1,5,15", "seed=0,1", "a=[1,2]"]
    record = {"hydra": {"overrides": {"task": typed, "hydra": ["hydra.mode=MULTIRUN"]}}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    sweep = read_sweep_folder(tmp_path)
    swept = find_swept(sweep)
    assert swept.fixed == ("experiment=demo", "a=[1,2]")
    said = command(sweep, swept, sweep.jobs[0])
    assert said.startswith("unlearn experiment=demo 'a=[1,2]' ")
    assert f"{FORGET}=0.1" in said and "data.forget.seed" not in said


def test_a_choice_that_changes_many_keys_is_one(read):
    def config(number, values):
        size = {"0": "small", "1": "large"}[values["model"]]
        extra = {"layers": 2 if size == "small" else 12, "name_or_path": size}
        plain = plain_config(number, {"seed": values["seed"]})
        return {**plain, "model": extra, "unlearn": {"rate": 0.1 if size == "small" else 0.2}}

    jobs = [([f"model={m}", f"seed={s}"], OK, "finished") for m in (0, 1) for s in (0, 1)]
    swept = find_swept(read(jobs, record=False, config=config))
    (key,) = swept.keys
    assert {key.path, *key.also} == {"model.layers", "model.name_or_path", "unlearn.rate"}


def test_numbers_that_are_all_different_are_not_taken_for_one_another(read):
    jobs = [([f"{FORGET}={n / 10}", f"{RETAIN}={9 - n}"], OK, "finished") for n in range(4)]
    swept = find_swept(read(jobs, record=False))
    assert {key.path for key in swept.keys} == {FORGET, RETAIN}


def test_a_key_that_some_jobs_leave_alone_is_looked_up(read):
    jobs = [([f"{FORGET}=0.1"], OK, "finished"), (["seed=0"], OK, "finished")]
    (key,) = find_swept(read(jobs)).keys
    assert key.values == ("0.1", "0.5")  # the latter from config.yaml


def test_a_job_without_a_configuration_is_no_value(tmp_path):
    write_sweep(tmp_path, grid(retain=(1.0,), seeds=(0,)), record=False)
    (tmp_path / "2" / "config.yaml").unlink()
    swept = find_swept(read_sweep_folder(tmp_path))
    assert [key.path for key in swept.keys] == [FORGET]
    assert swept.values["2"] == {FORGET: UNSET}
    assert swept.keys[0].numeric


def test_labels_grow_until_they_differ(read):
    words = [f"a.x.rate={v}" for v in (1, 2)], [f"b.x.rate={v}" for v in (1, 2)]
    jobs = [([one, other], OK, "finished") for one in words[0] for other in words[1]]
    assert [key.label for key in find_swept(read(jobs)).keys] == ["a.x.rate", "b.x.rate"]
