from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint

from unlearning.data import BookCorpusDataModule
from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.overlap import drop_duplicates
from unlearning.data.split import SPLITS
from unlearning.data.template import PromptTemplate
from unlearning.errors import ConfigError
from unlearning.module import UnlearningModule
from unlearning.types import Batch, Example

WORDS = (  # noqa: SIM905
    "a capital of France sun rise east steal lunch take when nobody looks cat says meow"
).split()


def sentence(number: int) -> str:
    """Four to nine words, no two sentences alike."""
    words = [WORDS[(number * step + step) % len(WORDS)] for step in range(3 + number % 6)]
    return " ".join([f"S{number}", *words]) + "."


def paragraph(start: int, sentences: int = 7) -> str:
    return "\n".join(sentence(n) for n in range(start, start + sentences))


# On a machine with one core two workers are more than torch suggests.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
Make = Callable[..., BookCorpusDataModule]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 420 sentences in all, some 70 windows of 36 words."""
    for file, paragraphs in enumerate((20, 10, 30)):
        text = "\n\n".join(paragraph(1000 * file + 7 * n) for n in range(paragraphs))
        (tmp_path / f"book{file}.txt").write_text(text + "\n")
    return tmp_path


@pytest.fixture
def make(folder: Path) -> Make:
    def build(**settings: Any) -> BookCorpusDataModule:
        usual = {
            "source": str(folder), "window_words": 36, "buffer_size": 12, "section_windows": 3,
            "held_out_limit": 8, "batch_size": 4,
        }  # fmt: skip
        return BookCorpusDataModule(**{**usual, **settings})

    return build


def text(example: Example) -> str:
    return example.prompt + example.response


def squeezed(texts: Any) -> str:
    return " ".join(" ".join(texts).split())


def epoch(data: BookCorpusDataModule, seed: int | None = None) -> list[Example]:
    return [example for _, example in data.stream(seed).head(10_000)]


# --- windows and splits --------------------------------------------------------------------------


def test_the_windows_are_the_text(make, folder):
    data = make(fractions=(1, 0, 0))
    files = [path.read_text() for path in sorted(folder.iterdir())]
    assert squeezed(data.texts()) == squeezed(files)
    assert sorted(map(text, epoch(data))) == sorted(data.texts())
    for example in epoch(data):
        assert example.response[0].isspace() and example.response.strip().endswith(".")
        assert example.prompt[0] == "S" and example.prompt.endswith(".")
        assert len(example.response.split()) > 1
    # Paragraphs stay, hard line ends within them do not.
    assert any("\n\n" in window for window in data.texts())
    assert not any("\n" in window.replace("\n\n", "") for window in data.texts())


def test_splits_are_apart_and_hold_everything(make):
    data = make(held_out_limit=1000, fractions=(0.5, 0.2, 0.3))
    splits = [epoch(data), data.examples("validation"), data.examples("test")]
    everything = epoch(make(fractions=(1, 0, 0)))
    assert all(splits)
    assert sorted(map(text, itertools.chain(*splits))) == sorted(map(text, everything))
    assert len(everything) == len(set(everything))
    # Runs of three windows stay together.
    numbers = {number for number, _ in data.stream().head(1000)}
    sections = {(n >> 32, n % (1 << 32) // 3) for n in numbers}
    every = {number for number, _ in make(fractions=(1, 0, 0)).stream().head(1000)}
    assert numbers == {n for n in every if (n >> 32, n % (1 << 32) // 3) in sections}


def test_without_streaming_the_order_is_by_hash_and_the_first_of_the_same_text_stays(make):
    held = make(streaming=False, seed=3)
    side: dict[Example, str] = {}
    for split in SPLITS:
        for part in range(len(held.windows.names)):
            for _, example in held.windows.examples(part, split):
                side.setdefault(example, split)
    distinct = drop_duplicates(list(side))

    def rank(example: Example) -> str:
        return sha256(f"3\n{example.prompt}{example.response}".encode()).hexdigest()

    for split in SPLITS:
        expected = sorted((e for e in distinct if side[e] == split), key=rank)
        assert list(held.examples(split)) == expected != []


def test_without_streaming_the_splits_are_the_same(make):
    streamed, held = make(held_out_limit=1000), make(streaming=False)
    assert set(held.examples("train")) == set(epoch(streamed))
    for split in ("validation", "test"):
        assert held.examples(split) == streamed.examples(split) != []


def test_held_out_windows_come_from_every_file_and_end_at_the_limit(make, monkeypatch):
    data = make(held_out_limit=6, fractions=(0.4, 0.0, 0.6))
    found = data.examples("test")
    assert len(found) == 6
    assert {int(e.prompt.split()[0][1:]) // 1000 for e in found} == {0, 1, 2}
    assert found == make(held_out_limit=6, fractions=(0.4, 0.0, 0.6)).examples("test")
    # Where one file has few, the others give more.
    everything = make(held_out_limit=1000, fractions=(0.4, 0.0, 0.6)).examples("test")
    for limit in (1, 5, len(everything) - 1, len(everything)):
        some = make(held_out_limit=limit, fractions=(0.4, 0.0, 0.6)).examples("test")
        assert len(set(some)) == limit and set(some) <= set(everything)
    # The scan stops early, or is not begun.
    assert make(fractions=(0.4, 0.0, 0.6)).examples("validation") == []
    taken = []
    original = data.windows.corpus.records

    def counting(part):
        for line in original(part):
            taken.append(part)
            yield line

    again = make(held_out_limit=3, fractions=(0.4, 0.0, 0.6))
    monkeypatch.setattr(again.windows.corpus, "records", counting)
    assert len(again.examples("test")) == 3
    assert len(taken) < 420


def test_the_streamed_training_split_is_no_list(make):
    with pytest.raises(ConfigError, match=r"Use \.stream\(\), or set streaming=false"):
        make().examples("train")
    with pytest.raises(ConfigError, match="Unknown split 'val'"):
        make().examples("val")


@pytest.mark.parametrize("kind", ["jsonl", "hub"])
def test_rows_of_single_sentences(tmp_path, monkeypatch, kind):
    """As BookCorpus has them: lower case, one sentence a row."""
    rows = [{"text": f"{sentence(n).lower()[:-1]} ."} for n in range(60)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    source = str(path)
    if kind == "hub":
        loaded = datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=2)
        monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: loaded)
        source = "bookcorpus/bookcorpus"
    records = {"jsonl": "sentences", "hub": None}[kind]
    data = BookCorpusDataModule(source, records, window_words=30, fractions=(1, 0, 0))
    assert squeezed(data.texts()) == squeezed(row["text"] for row in rows)
    for example in epoch(data):
        assert example.prompt.startswith("s") and example.prompt.endswith(" .")
        assert example.response.startswith(" s") and example.response.endswith(" .")


# --- order ---------------------------------------------------------------------------------------


def test_the_order_is_a_function_of_the_seed(make):
    assert epoch(make(), seed=1) == epoch(make(), seed=1) != epoch(make(), seed=2)
    assert set(epoch(make(), seed=1)) == set(epoch(make(), seed=2))
    assert set(epoch(make(seed=5))) != set(epoch(make(seed=6)))  # other splits


def batches(data: BookCorpusDataModule, epochs: int = 1) -> list[list[Example]]:
    loader = data.train_dataloader()
    return [batch for _ in range(epochs) for batch in loader]


def test_a_loader_of_its_own(make):
    data = make()
    expected = epoch(data)
    found = batches(make(), epochs=3)
    assert all(len(batch) == 4 for batch in found)
    size = len(expected)
    assert size % 4  # the last batch of an epoch is filled up from the next one
    flat = list(itertools.chain(*found))
    stream = data.stream()
    assert flat == [stream[n][2] for n in range(len(flat))]
    assert flat[:size] == expected and len(flat) >= 3 * size
    assert len(batches(make())) == -(-size // 4)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make, workers):
    assert batches(make(num_workers=workers), epochs=2) == batches(make(), epochs=2)


class Rank:
    """What is asked of a Trainer by a loader."""

    def __init__(self, rank: int) -> None:
        self.global_rank, self.world_size, self.training = rank, 2, False


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_stream_out(make, workers):
    whole = batches(make(batch_size=8))
    ranks = []
    for rank in range(2):
        data = make(num_workers=workers)
        data.trainer = Rank(rank)
        ranks.append(batches(data))
    assert len(ranks[0]) == len(ranks[1])  # or the longer one would wait for ever
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_at_every_batch(make, workers):
    whole = batches(make(), epochs=3)
    per_epoch = len(batches(make()))
    for taken in range(0, 2 * per_epoch, 1 if workers == 0 else 7):
        first = make()
        loader = first.train_dataloader()
        for _ in range(taken // per_epoch):
            list(loader)
        list(itertools.islice(loader, taken % per_epoch))
        resumed = make(num_workers=workers)
        resumed.load_state_dict(first.state_dict())
        found = list(resumed.train_dataloader())
        assert found == whole[taken : taken + len(found)]
        assert found


def test_with_a_tokenizer_it_yields_batches(make, tokenizer):
    data = make(tokenizer=tokenizer, max_length=48)
    first = next(iter(data.train_dataloader()))
    assert isinstance(first, Batch) and first.index == 0
    answers = first.answers["train"]
    assert answers.num_sequences == 4
    expected = [data.stream()[n][2].response for n in range(4)]
    for number, response in enumerate(expected):
        found = tokenizer.decode(answers.targets[answers.sequence == number])
        assert len(found.split()) == len(response.split())
    assert isinstance(next(iter(data.val_dataloader())), Batch)


class Watching(LightningModule):
    """Trains one number and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch.index, *batch.answers["train"].examples))
        return self.number * batch.index

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_resumes_it_exactly(make, tokenizer, quiet_trainer, tmp_path, workers):
    """It asks for one batch ahead, which the state must not count."""

    folder = tmp_path / "checkpoints"

    def fit(ckpt_path: Path | None = None) -> Watching:
        kept = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = quiet_trainer(
            max_steps=9, limit_val_batches=0, enable_checkpointing=ckpt_path is None,
            callbacks=[kept] if ckpt_path is None else [],
        )  # fmt: skip
        data = make(tokenizer=tokenizer, max_length=60, batch_size=12, num_workers=workers)
        module = Watching()
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        assert trainer.global_step == 9
        return module

    whole = fit()
    assert [index for index, *_ in whole.seen] == list(range(9))  # over several epochs
    for step in (1, 3, 4, 5, 8) if workers == 0 else (4,):
        resumed = fit(folder / f"step={step}.ckpt")
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.number, whole.number)


# --- fingerprint ---------------------------------------------------------------------------------


def test_the_fingerprint_sees_every_setting_and_the_text(make, folder, tmp_path_factory):
    base = make().fingerprint()
    assert make().fingerprint() == base
    changed: list[dict[str, Any]] = [
        {"window_words": 30}, {"prompt_share": 0.3}, {"records": "lines"}, {"seed": 1},
        {"section_windows": 4}, {"fractions": (0.8, 0.1, 0.1)}, {"buffer_size": 13},
        {"streaming": False}, {"mismatch_pool": 5}, {"held_out_limit": 9},
    ]  # fmt: skip
    others = [make(**settings).fingerprint() for settings in changed]
    assert len({base, *others}) == len(others) + 1
    moved = tmp_path_factory.mktemp("moved") / "corpus"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert make(source=str(moved)).fingerprint() == base
    with (moved / "book1.txt").open("a") as file:
        file.write("More.")
    assert make(source=str(moved)).fingerprint() != base


def test_a_hub_is_identified_by_its_revision():
    prints = {BookCorpusDataModule(revision=r).fingerprint() for r in (None, "a", "b")}
    assert len(prints) == 3


# --- in UnlearningDataModule ---------------------------------------------------------------------


@pytest.fixture
def unlearning(make, tokenizer, forget_examples):
    def build(retain=None, **settings: Any) -> UnlearningDataModule:
        template = PromptTemplate("{prompt}", "", append_eos=False)
        usual = {"mismatch_per_prompt": 3, "batch_size": 2, "max_length": 60, "template": template}
        return UnlearningDataModule(
            forget_examples, retain or make(), tokenizer, **{**usual, **settings}
        )

    return build


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.rows.input_ids, second.rows.input_ids) and all(
        torch.equal(first.answers[role].targets, second.answers[role].targets)
        and first.answers[role].examples == second.answers[role].examples
        for role in ("forget", "mismatch", "retain")
    )


def first_batches(data: UnlearningDataModule, number: int) -> list[Batch]:
    data.setup()
    return [data.batch_at(n) for n in range(number)]


def test_every_window_is_retained_once_an_epoch(unlearning, make):
    data, size = unlearning(batch_size=1), len(epoch(make()))
    found = [batch.answers["retain"].examples[0] for batch in first_batches(data, 2 * size)]
    assert len({*found[:size]}) == size
    assert sorted(found[:size]) == sorted(found[size:]) and found[:size] != found[size:]
    assert "retain" not in data.sequences
    assert data.fingerprints["retain"] == make().fingerprint()


def test_mismatches_are_whole_sentences_of_the_pool(unlearning, make):
    retain = make(mismatch_pool=9)
    data = unlearning(retain)
    pool = retain.stream(data.seed).head(9)
    batches = first_batches(data, 20)
    drawn = {n for batch in batches for n in batch.answers["mismatch"].examples}
    assert drawn == {number for number, _ in pool}
    answers = dict(pool)
    for batch in batches:
        mismatch = batch.answers["mismatch"]
        for row, number in enumerate(mismatch.examples):
            words = answers[number].response.split()
            assert (mismatch.sequence == row).sum() == min(len(words), 60) > 1
        for start in (0, 3):
            assert len({answers[n].response for n in mismatch.examples[start : start + 3]}) == 3


def test_streamed_pairs_are_those_of_the_list(unlearning, make, tokenizer):
    """The same window, tokenised on the fly and in advance."""
    streamed, listed = unlearning(), unlearning(make(streaming=False))
    listed.setup()
    examples = listed.retain.examples("train")
    by_tokens = {s.response_ids: s for s in listed.sequences["retain"]}
    assert len(by_tokens) <= len(examples)
    for batch in first_batches(streamed, 30):
        answers = batch.answers["retain"]
        for row in range(answers.num_sequences):
            assert tuple(answers.targets[answers.sequence == row].tolist()) in by_tokens


def test_it_resumes_at_every_batch(unlearning):
    """Five forget examples and some fifty windows in blocks of twelve: all borders are crossed."""
    whole = first_batches(unlearning(), 60)
    for taken in range(59):
        resumed = unlearning()
        resumed.load_state_dict({"next_batch": taken})
        stream = iter(resumed.train_dataloader())
        assert same(next(stream), whole[taken])
        assert same(next(stream), whole[taken + 1])
        assert resumed.state_dict() == {"next_batch": taken + 2, "ranks": 1}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_an_unlearning_run_resumes_bit_for_bit(unlearning, make_model, quiet_trainer, tmp_path):
    """Eight batches go past the first block, and into the forget set's third epoch."""

    folder = tmp_path / "checkpoints"

    def fit(ckpt_path: Path | None = None) -> UnlearningModule:
        kept = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = quiet_trainer(
            max_steps=8, enable_checkpointing=ckpt_path is None,
            callbacks=[kept] if ckpt_path is None else [],
        )  # fmt: skip
        module = UnlearningModule(make_model(), learning_rate=1e-4)
        trainer.fit(module, unlearning(), ckpt_path=ckpt_path, weights_only=True)
        assert trainer.global_step == 8
        assert type(module.reference).__name__ == "Copy"  # nothing there to cache for
        return module

    whole = fit().policy.state_dict()
    last = torch.load(folder / "step=7.ckpt", weights_only=True)["state_dict"]
    assert any(not torch.equal(whole[name], last[f"policy.{name}"]) for name in whole)
    for step in (2, 3, 6, 7):
        resumed = fit(folder / f"step={step}.ckpt").policy.state_dict()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_data_are_the_same_whatever_the_number_of_ranks(unlearning):
    class Two(Rank):
        accumulate_grad_batches = 1

    whole = first_batches(unlearning(batch_size=4), 12)
    parts = []
    for rank in range(2):
        data = unlearning(batch_size=2)
        data.trainer = Two(rank)
        parts.append(first_batches(data, 12))
    for role in ("forget", "mismatch", "retain"):
        for big, *small in zip(whole, *parts, strict=True):
            together = [n for part in small for n in part.answers[role].examples]
            assert sorted(together) == sorted(big.answers[role].examples)


def test_cut_answers_are_counted_and_long_prompts_give_way(unlearning, make, forget_examples):
    data = unlearning(max_length=20)
    batches = first_batches(data, 5)
    assert data.truncated["retain"] == 10  # a window has thirty words
    assert all(batch.answers["retain"].num_sequences == 2 for batch in batches)


def test_a_text_in_both_is_refused(make, tokenizer):
    retain = make()
    shared = retain.stream(0).head(3)[1][1]
    with pytest.raises(ConfigError, match="1 forget examples are also in the retain set"):
        UnlearningDataModule([shared], retain, tokenizer).setup()


# --- bad input -----------------------------------------------------------------------------------


def test_too_few_windows_for_k(unlearning, make):
    with pytest.raises(ConfigError, match=r"mismatch_per_prompt=4 .* has 3"):
        unlearning(make(mismatch_pool=3), mismatch_per_prompt=4).setup()


@pytest.mark.parametrize("streaming", [True, False])
def test_an_empty_corpus(tmp_path, unlearning, streaming):
    (tmp_path / "none").mkdir()
    path = tmp_path / "none" / "a.txt"
    path.write_text("\n \n")
    data = BookCorpusDataModule(str(path), streaming=streaming)
    with pytest.raises(ConfigError, match="holds no text"):
        data.check()
    with pytest.raises(ConfigError, match="no training window"):
        unlearning(data).setup()


def test_a_wrong_encoding_is_found_before_training(unlearning, make, folder):
    with (folder / "book2.txt").open("ab") as file:
        position = file.tell()
        file.write(b"caf\xe9.")
    for act in (make().check, make().fingerprint, unlearning(make()).setup):
        with pytest.raises(ConfigError, match=f"byte 0xe9 at position {position + 3} "):
            act()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"records": "words"}, "records='words': expected one of sentences, lines, paragraphs"),
        ({"prompt_share": 0.6}, r"prompt_share=0\.6: expected a share above 0"),
        ({"window_words": 3}, "window_words=3 must be at least 4"),
        ({"buffer_size": 0}, "buffer_size=0 must be at least 1"),
        ({"mismatch_pool": 0}, "mismatch_pool=0 must be at least 1"),
        ({"fractions": (0, 0.5, 0.5)}, "the first above 0"),
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_a_part_of_a_stream_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_prompts.*Set streaming=false"):
        BookCorpusDataModule("any.txt", streaming=True, train_prompts=3)
