"""How fast prompts are completed: in batches of several sizes, and one prompt at a time.

    OMP_WAIT_POLICY=passive python experiments/speed/generation.py [--device cuda] [--quick]

One process, the ways in turn in every round, so that what else the machine does hits all alike.
(Threads that spin while they wait for one that another program has pushed aside would not: hence
the variable, and the processor's seconds beside the clock's.) What is slow is timed on every n-th
prompt by length, and its time multiplied by n. All texts are compared with those of one at a time
and with those of the smallest batch, where both have said something.

Random weights all but never say the end token. The second case makes them: each prompt's answer
ends after a length of its own, drawn from 5 to 48 tokens. There, "ended rows kept" computes them on
until the last row of the batch has ended, as Hugging Face's `generate` does.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measure import median, seconds, spread
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from unlearning.generation import decoding
from unlearning.generation.generate import Completion, generate
from unlearning.generation.stopping import StopRule
from unlearning.models.trial import takes_left_pads

RESULTS = Path(__file__).parent / "results" / "generation.json"
ALONE = "one at a time"
KEPT = ", ended rows kept"
END, FIRST_WORD, VOCABULARY = 2, 4, 50_272


@dataclass(frozen=True)
class Plan:
    """What is generated, and in what ways."""

    width: int
    layers: int
    prompts: int = 256
    new_tokens: int = 48
    shortest_answer: int = 5
    vocabulary: int = VOCABULARY
    sizes: tuple[int | None, ...] = (24, None)
    sizes_ending: tuple[int | None, ...] = (None,)
    every: int = 16  # of the prompts, for one at a time
    every_small: int = 4  # and for batches of up to 64
    rounds: int = 3


def model_of(plan: Plan, device: str, dtype: torch.dtype) -> OPTForCausalLM:
    """Random weights; every prompt goes through the same."""
    config = OPTConfig(
        vocab_size=plan.vocabulary, hidden_size=plan.width, num_hidden_layers=plan.layers,
        ffn_dim=4 * plan.width, num_attention_heads=max(plan.width // 64, 1),
        word_embed_proj_dim=plan.width, max_position_embeddings=2048, pad_token_id=1,
        bos_token_id=END, eos_token_id=END,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        return OPTForCausalLM(config).to(dtype).eval()


def tokenizer_of(plan: Plan) -> PreTrainedTokenizerFast:
    words = {"<s>": 0, "<pad>": 1, "</s>": END, "<unk>": 3}
    words |= {f"w{n}": n for n in range(FIRST_WORD, plan.vocabulary)}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def prompts_of(plan: Plan) -> list[str]:
    """10 to 40 random words each."""
    draw = random.Random(0)
    return [
        " ".join(
            f"w{draw.randrange(FIRST_WORD, plan.vocabulary)}" for _ in range(draw.randint(10, 40))
        )
        for _ in range(plan.prompts)
    ]


class Endings:
    """Makes the model end each answer after a length of the prompt's own.

    Which prompt a row of a batch is, its first words say; how much has been said, the cache.
    All from outside the model, so that nothing of the code under test knows of it.
    """

    def __init__(self, plan: Plan, prompts: list[list[int]]) -> None:
        draw = random.Random(1)
        # By the first two words: random ones, of which there are enough.
        self.lengths = {
            tuple(ids[:2]): len(ids) + draw.randint(plan.shortest_answer, plan.new_tokens)
            for ids in prompts
        }
        assert len(self.lengths) == len(prompts), "two prompts begin alike"
        self.ends_B = torch.empty(0)

    def choose(self, rows_BL: Tensor, mask_BL: Tensor) -> None:
        """The rows that are computed from now on."""
        starts = mask_BL.argmax(1).tolist()
        numbered = list(zip(rows_BL.tolist(), starts, strict=True))
        columns = [s + self.lengths[tuple(row[s : s + 2])] for row, s in numbered]
        self.ends_B = torch.tensor(columns, device=rows_BL.device)

    def __call__(self, logits_BLV: Tensor, columns: int) -> None:
        """Of the token after that many columns of the batch, padding included."""
        logits_BLV[:, -1, END] = torch.where(self.ends_B <= columns + 1, 1e4, -1e4)


@contextmanager
def ending(model: OPTForCausalLM, endings: Endings | None) -> Iterator[None]:
    if endings is None:
        yield
        return
    original = model.generate

    def generate_(**arguments):  # the place where a batch's rows are known
        endings.choose(arguments["input_ids"], arguments["attention_mask"])
        return original(**arguments)

    def hook(_, __, output):
        endings(output.logits, output.past_key_values.get_seq_length())

    handle = model.register_forward_hook(hook)
    try:
        with patch.object(model, "generate", generate_):
            yield
    finally:
        handle.remove()


class NeverEnough(decoding.Ended):
    def __init__(self, stop: StopRule, rows: int, width: int, together: bool = True) -> None:
        super().__init__(stop, rows, width, together)
        self.enough = rows + 1


@contextmanager
def ended_rows(kept: bool) -> Iterator[None]:
    with (
        patch.object(decoding, "Ended", NeverEnough if kept else decoding.Ended),
        patch.object(decoding, "DROPS_ROWS", ("cpu", "cuda")),
    ):
        yield


class Rounds:
    """The ways of one case: seconds for all prompts, and what was said."""

    def __init__(self, plan: Plan, device: str, dtype: torch.dtype, ends: bool) -> None:
        self.plan, self.device = plan, device
        self.model, self.tokenizer = model_of(plan, device, dtype), tokenizer_of(plan)
        self.prompts = prompts_of(plan)
        ids = self.tokenizer(self.prompts)["input_ids"]
        self.endings = Endings(plan, ids) if ends else None
        self.by_length = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}
        self.said: dict[str, dict[int, Completion]] = {}
        takes_left_pads(self.model)  # tried once, on tokens of no prompt
        with ending(self.model, self.endings):
            generate(self.model, self.tokenizer, self.prompts[:2], 2, 1)  # first calls are slow

    def round(self, on_timed: Callable[[], None]) -> None:
        plan = self.plan
        with ending(self.model, self.endings):
            self.time(ALONE, plan.every, 1)
            for size in plan.sizes_ending if self.endings else plan.sizes:
                every = plan.every_small if size and size <= 64 else 1
                with ended_rows(kept=False):
                    self.time(f"batch {size}", every, size)
                if self.endings:
                    with ended_rows(kept=True):
                        self.time(f"batch {size}{KEPT}", every, size)
                on_timed()

    def time(self, way: str, every: int, batch_size: int | None) -> None:
        numbers = self.by_length[::every]
        chosen = [self.prompts[n] for n in numbers]
        found: list[Completion] = []
        start = time.process_time()
        taken = seconds(
            lambda: found.extend(
                generate(self.model, self.tokenizer, chosen, self.plan.new_tokens, batch_size)
            ),
            self.device,
        )
        scale = len(self.prompts) / len(numbers)
        self.processor.setdefault(way, []).append((time.process_time() - start) * scale)
        self.wall.setdefault(way, []).append(taken * scale)
        self.said[way] = dict(zip(numbers, found, strict=True))

    def results(self) -> dict[str, dict[str, Any]]:
        everything = max(self.said.values(), key=len)
        if len(everything) < len(self.prompts):  # in the first round, before it is known
            return {}
        tokens = sum(completion.num_tokens for completion in everything.values())
        smallest = list(self.said)[1]
        return {
            way: {
                "seconds": median(taken),
                "quartiles": spread(taken),
                "all": taken,
                "processor_seconds": median(self.processor[way]),
                "tokens_a_second": tokens / median(taken),
                "ratio": median(ratios(self.wall[ALONE], taken)),
                "ratio_processor": median(ratios(self.processor[ALONE], self.processor[way])),
                "prompts_timed": len(self.said[way]),
                "equal_to_alone": self.equal(way, ALONE),
                "equal_to_smallest": self.equal(way, smallest),
            }
            for way, taken in self.wall.items()
        }

    def equal(self, way: str, other: str) -> tuple[int, int]:
        """Texts, and tokens, that are the same; of how many."""
        common = self.said[way].keys() & self.said[other].keys()
        return sum(self.said[way][n] == self.said[other][n] for n in common), len(common)


def ratios(alone: list[float], taken: list[float]) -> list[float]:
    return [a / t for a, t in zip(alone, taken, strict=False)]  # of the rounds done


def table(found: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| | prompts timed | seconds for all | quartiles | tokens/s | times as fast | by processor "
        "time | texts as one at a time | as the smallest batch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way, row in found.items():
        low, high = row["quartiles"]
        equal = [" of ".join(map(str, row[key])) for key in ("equal_to_alone", "equal_to_smallest")]
        lines.append(
            f"| {way} | {row['prompts_timed']} | {row['seconds']:.2f} | {low:.2f} to {high:.2f} "
            f"| {row['tokens_a_second']:.0f} | {row['ratio']:.1f} | {row['ratio_processor']:.1f} "
            f"| {equal[0]} | {equal[1]} |"
        )
    return "\n".join(lines)


def plan_of(arguments: argparse.Namespace) -> Plan:
    if arguments.quick:
        return Plan(64, 2, prompts=16, new_tokens=12, vocabulary=1000, sizes=(4, None),
                    sizes_ending=(4, None), every=4, every_small=1, rounds=1)  # fmt: skip
    if arguments.device == "cuda":
        return Plan(2048, 24, rounds=arguments.rounds)
    return Plan(512, 8, rounds=arguments.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    found: dict[str, Any] = {
        "plan": vars(plan), "device": arguments.device, "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }  # fmt: skip
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    cases = {
        "no answer ends": Rounds(plan, arguments.device, dtype, ends=False),
        "answers end after 5 to 48 tokens": Rounds(plan, arguments.device, dtype, ends=True),
    }

    def write() -> None:
        found.update({case: rounds.results() for case, rounds in cases.items() if rounds.wall})
        arguments.results.write_text(json.dumps(found, indent=1) + "\n")

    for _ in range(plan.rounds):
        for rounds in cases.values():
            rounds.round(write)
    for case in cases:
        print(f"\n{case}\n\n{table(found[case])}", flush=True)


if __name__ == "__main__":
    main()
