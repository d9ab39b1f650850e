"""The command lines of a comparison's jobs: the user's words, and what makes a trial or a test."""

from __future__ import annotations

from collections.abc import Sequence

from unlearning.sweep.words import key_of


def trial_words(arguments: Sequence[str], method: str, validation: str, seed: int) -> list[str]:
    """Returns the words of a method's trials, to which a search adds what it tries.

    What the user chose for the evaluation is for the test.
    """
    kept = [word for word in arguments if not _of(word, ("evaluation.prompt_sets", "seed"))]
    kept = [word for word in kept if key_of(word) not in ("evaluation", "method")]
    return [*kept, f"method={method}", f"evaluation={validation}", f"seed={seed}"]


def test_words(
    arguments: Sequence[str], chosen: Sequence[str], seed: int, apart: Sequence[str] = ()
) -> list[str]:
    """Returns the words of a test: those of the chosen trial, with the user's evaluation.

    Args:
        chosen: overrides of the trial.
        apart: what keeps the test from the prompts of the trials, see `fair.words_apart`.
    """
    own = [word for word in chosen if key_of(word) not in ("evaluation", "seed")]
    kept = [word for word in arguments if key_of(word) == "evaluation"]
    kept += [word for word in arguments if _of(word, ("evaluation.prompt_sets",))]
    return [*own, *kept, *apart, f"seed={seed}"]


def _of(word: str, keys: Sequence[str]) -> bool:
    key = key_of(word)
    return any(key == known or key.startswith(f"{known}.") for known in keys)
