"""Peak memory of a streamed retain corpus as the corpus grows: 1 x, 4 x and 16 x the text.

    python experiments/copyright/memory.py                  # 4, 16 and 64 MB of made sentences
    python experiments/copyright/memory.py --text FOLDER    # copies of your own .txt files

Each size runs in a fresh process: as many batches of an UnlearningDataModule as show every window
of the training split once. Reported is the peak resident memory of the process, and what of it came
after the libraries and the tokenizer were loaded. The
rows without streaming are for contrast.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets  # noqa: F401  # part of the baseline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unlearning.data import BookCorpusDataModule, PromptTemplate
from unlearning.data.datamodule import UnlearningDataModule
from unlearning.data.pairs import StreamedPairs
from unlearning.types import Example

FACTORS = (1, 4, 16)
SYLLABLES = (
    "ba",
    "den",
    "fo",
    "gil",
    "hur",
    "ka",
    "lo",
    "mer",
    "nis",
    "or",
    "pel",
    "ra",
    "sti",
    "tun",
)


def made_text(size: int, seed: int) -> str:
    """Paragraphs of made-up words, about `size` characters, no two alike."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(5000)]
    paragraphs, length = [], 0
    while length < size:
        sentences = (" ".join(draw.choices(words, k=draw.randint(4, 20))) for _ in range(6))
        paragraphs.append(" ".join(f"{s.capitalize()}." for s in sentences))
        length += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs)


def write_corpus(folder: Path, factor: int, megabytes: float, text: Path | None) -> None:
    """`factor` times the base text, in files of about a megabyte or as the given text has them."""
    for copy in range(factor):
        if text is None:
            for number in range(max(1, round(megabytes))):
                size = round(1e6 * megabytes / max(1, round(megabytes)))
                made = made_text(size, seed=1000 * copy + number)
                (folder / f"{copy}-{number}.txt").write_text(made, encoding="utf-8")
        else:
            for file in sorted(text.glob("*.txt")):
                # Numbered, since the same window twice would be one where all is in memory.
                content = file.read_text(encoding="utf-8").replace("\n\n", f"\n\n{copy}. ")
                (folder / f"{copy}-{file.name}").write_text(content, encoding="utf-8")


def measure(folder: str, streaming: bool, buffer_size: int) -> dict[str, float]:
    """One epoch of the corpus in this process."""
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="<s>", pad_token="<s>"
    )
    retain = BookCorpusDataModule(
        folder, streaming=streaming, buffer_size=buffer_size, fractions=(0.9, 0.05, 0.05)
    )
    forget = [Example(f"What is {n}?", f" It is {n} and not {n + 1}.") for n in range(64)]
    baseline = _peak()
    start = time.perf_counter()
    data = UnlearningDataModule(
        forget, retain, tokenizer, PromptTemplate("{prompt}", "", append_eos=False),
        batch_size=4, retain_batch_size=16, max_length=256,
    )  # fmt: skip
    data.setup()
    ready = time.perf_counter()
    shown = number = 0
    while (size := retain_size(data)) is None or shown < size:
        shown += data.batch_at(number).answers["retain"].num_sequences
        number += 1
    return {
        "windows": size,
        "baseline_mb": baseline,
        "peak_mb": _peak(),
        "setup_s": ready - start,
        "windows_per_s": shown / (time.perf_counter() - ready),
    }


def retain_size(data: UnlearningDataModule) -> int | None:
    """Windows of the training split; of a stream, once it was read to its end."""
    if isinstance(data.pairs, StreamedPairs):
        return data.pairs.stream.size
    return len(data.sequences["retain"])


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives kilobytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=4, help="size of 1 x (made text)")
    parser.add_argument("--text", type=Path, help="a folder of .txt files to copy instead")
    parser.add_argument("--buffer-size", type=int, default=2000, help="windows in memory")
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, not options.in_memory, options.buffer_size)))
        return
    print("| streaming | text | windows | baseline MB | peak MB | over baseline MB | windows/s |")
    print("|---|---|---|---|---|---|---|")
    for factor in options.factors:
        with tempfile.TemporaryDirectory() as name:
            write_corpus(Path(name), factor, options.megabytes, options.text)
            size = sum(file.stat().st_size for file in Path(name).iterdir()) / 1e6
            for flags in ([], ["--in-memory"]):
                command = [sys.executable, __file__, "--measure", name, *flags]
                command += ["--buffer-size", str(options.buffer_size)]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True
                ).stdout
                r = json.loads(output.splitlines()[-1])
                print(
                    f"| {'no' if flags else 'yes'} | {factor} x = {size:.1f} MB | {r['windows']} | "
                    f"{r['baseline_mb']:.0f} | {r['peak_mb']:.0f} | "
                    f"{r['peak_mb'] - r['baseline_mb']:.0f} | {r['windows_per_s']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
