"""The embedded story and prose: what the copyright demo's claims rest on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from statistics import median

import pytest

from unlearning.data.synthetic.texts import prose_text, story_text

HEADING = re.compile(r"Chapter (\d+): (\S.*)")
BREAK = "* * *"
CLOSING = "The End"
TEXTS = {"story": story_text(), "prose": prose_text()}
NAMES = (
    "Oddry", "Vask", "Telsabet", "Brothick", "Hobbrel", "Ilko", "Quennow", "Sibba", "Marl",
    "Dobbin", "Pennerby", "Drasp", "Yarb", "Skeddery", "Ondrabel", "Crundlewood", "Lissow",
    "Vennigate", "Ghessel", "feltmen",
)  # fmt: skip


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def phrases(text: str, length: int) -> Counter[tuple[str, ...]]:
    """All runs of `length` words, also across the ends of sentences and paragraphs."""
    found = words(text)
    return Counter(tuple(found[n : n + length]) for n in range(len(found) - length + 1))


def blocks(text: str) -> list[str]:
    return text.rstrip("\n").split("\n\n")


def front_matter() -> list[str]:
    found = blocks(TEXTS["story"])
    first = next(n for n, block in enumerate(found) if HEADING.fullmatch(block))
    return found[:first]


def chapters() -> dict[int, list[str]]:
    """Paragraphs by chapter number, the closing line left out."""
    found: dict[int, list[str]] = {}
    for block in blocks(TEXTS["story"])[len(front_matter()) : -1]:
        heading = HEADING.fullmatch(block)
        if heading:
            assert int(heading[1]) not in found
            found[int(heading[1])] = []
        else:
            found[max(found)].append(block)
    return found


def pieces() -> list[list[str]]:
    """Paragraphs of the prose by piece."""
    found: list[list[str]] = [[]]
    for block in blocks(TEXTS["prose"]):
        if block == BREAK:
            found.append([])
        else:
            found[-1].append(block)
    return found


def paragraphs(name: str) -> list[str]:
    groups = list(chapters().values()) if name == "story" else pieces()
    return [paragraph for group in groups for paragraph in group]


# --- both texts


@pytest.mark.parametrize(("name", "low", "high"), [("story", 5500, 6500), ("prose", 6000, 7000)])
def test_the_text_has_the_promised_length_and_a_small_vocabulary(
    name: str, low: int, high: int
) -> None:
    found = words(TEXTS[name])
    assert low <= len(found) <= high
    assert 1000 <= len(set(found)) <= 2500


@pytest.mark.parametrize("name", TEXTS)
def test_only_printable_ascii_and_line_feeds(name: str) -> None:
    assert {c for c in TEXTS[name] if not (" " <= c <= "~" or c == "\n")} == set()


@pytest.mark.parametrize("name", TEXTS)
def test_a_paragraph_is_one_line_and_blank_lines_are_single(name: str) -> None:
    text = TEXTS[name]
    assert text.endswith("\n") and not text.endswith("\n\n")
    for block in blocks(text):
        assert block and "\n" not in block
        assert block == " ".join(block.split())


@pytest.mark.parametrize(("name", "low", "high"), [("story", 40, 110), ("prose", 40, 90)])
def test_paragraphs_are_of_moderate_length_and_whole_sentences(
    name: str, low: int, high: int
) -> None:
    for paragraph in paragraphs(name):
        assert low <= len(paragraph.split()) <= high, paragraph[:60]
        assert re.match(r'"?[A-Z]', paragraph) and re.search(r'[.!?]"?$', paragraph)
        assert paragraph.count('"') % 2 == 0, paragraph[:60]


@pytest.mark.parametrize("name", TEXTS)
def test_no_phrase_of_ten_words_occurs_twice(name: str) -> None:
    repeated = {phrase for phrase, count in phrases(TEXTS[name], 10).items() if count > 1}
    assert repeated == set()


def test_story_and_prose_share_no_phrase_of_eight_words() -> None:
    assert set(phrases(TEXTS["story"], 8)) & set(phrases(TEXTS["prose"], 8)) == set()


# --- the story


def test_front_matter_comes_before_chapter_one_and_the_end_comes_last() -> None:
    title, licence, contents = front_matter()
    assert title == "The Answer of the Grey Aunt"
    assert licence == "Written for this project; MIT licence."
    assert contents.startswith("Contents:")
    assert blocks(TEXTS["story"])[-1] == CLOSING
    assert TEXTS["story"].count(CLOSING) == 1


def test_chapters_are_numbered_in_order_and_of_similar_length() -> None:
    found = chapters()
    assert list(found) == list(range(1, 16))
    lengths = [len(" ".join(chapter).split()) for chapter in found.values()]
    assert min(lengths) >= 350 and max(lengths) <= 475
    assert max(lengths) < 1.2 * median(lengths) and min(lengths) > 0.8 * median(lengths)


def test_the_contents_line_names_the_first_and_the_last_chapter() -> None:
    titles = [match[2] for block in blocks(TEXTS["story"]) if (match := HEADING.fullmatch(block))]
    assert len(set(titles)) == 15
    assert titles[0] in front_matter()[2] and titles[-1] in front_matter()[2]


def test_the_main_names_and_the_sayings_return() -> None:
    holding = {
        name: sum(name in " ".join(chapter) for chapter in chapters().values())
        for name in ("Oddry", "Hobbrel", "Brothick", "Ilko", "Vennigate")
    }
    assert holding["Oddry"] == 15 and min(holding.values()) >= 8, holding
    for saying in ("Count the oars", "Fog forgives nobody"):
        assert TEXTS["story"].count(saying) >= 2


# --- the prose


def test_the_prose_is_in_pieces_of_five_to_eight_paragraphs() -> None:
    found = pieces()
    assert len(found) == 16
    assert all(5 <= len(piece) <= 8 for piece in found)


def test_the_names_are_the_story_s_alone() -> None:
    for name in NAMES:
        assert name in TEXTS["story"], name
        assert not re.search(rf"\b{name}\b", TEXTS["prose"], re.IGNORECASE), name


def test_no_paragraph_stands_in_either_text_twice() -> None:
    everything = paragraphs("story") + paragraphs("prose")
    assert len(everything) > 150
    assert len(set(everything)) == len(everything)


# --- the loader


def test_the_texts_can_be_read_without_torch() -> None:
    code = (
        "import sys; from unlearning.data.synthetic.texts import prose_text, story_text;"
        "assert story_text() and prose_text(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
