"""A wrong value of any key is refused before a run starts, and the message names the key."""

from __future__ import annotations

CONFIGURATIONS = {
    "harmful": ["experiment=harmful"],
    "copyright": ["experiment=copyright", "data.forget.source=book.txt"],
    "demo": ["experiment=demo"],
    "evaluate": ["experiment=demo", "task=evaluate"],
    "finetune": ["experiment=copyright_demo", "trainer=debug"],
    "wandb": ["experiment=demo", "logger=wandb"],
    "rmu": ["experiment=demo", "method=rmu"],
    "sam": ["experiment=demo", "method=sam"],
    "npo": ["experiment=demo", "method=npo"],
    "task_vector": ["experiment=demo", "method=task_vector"],
    "adalora": ["experiment=demo", "finetune=adalora", "model.lora={kind: adalora}"],
    "fsdp": ["experiment=demo", "trainer=fsdp"],
}
HUGE = 10**40
WRONG = (None, True, "wrong", "", -1, 0, 1.5, HUGE, float("nan"), float("inf"), -2.5, [], {},
         ["wrong"], [-1], {"wrong": 1}, [[]])  # fmt: skip
