"""The embedded story as a book, and the embedded prose as a corpus."""

from __future__ import annotations

import pytest

from unlearning.data import ProseDataModule, StoryDataModule
from unlearning.data.ngrams import check_no_shared_text
from unlearning.data.split import SPLITS
from unlearning.data.synthetic import prose_text, story_text


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_story_is_cut_into_passages_by_chapter(seed):
    story = StoryDataModule(seed=seed)
    chapters = {split: story.texts(split) for split in SPLITS}
    assert sum(map(len, chapters.values())) == 15 and len(chapters["test"]) in (2, 3, 4)
    assert not chapters["validation"]
    for split in ("train", "test"):
        whole = "\n".join(chapters[split])
        for example in story.examples(split):
            assert example.prompt + example.response in whole
            assert 0 < len(example.prompt) < len(example.response)
    assert story.num_short == story.num_overlapping == 0
    everything = " ".join(text for texts in chapters.values() for text in texts)
    assert "MIT licence" not in everything and "The End" not in everything
    assert "MIT licence" in story_text() and "The End" in story_text()


def test_a_part_of_the_story():
    part = StoryDataModule(chapters=(1, 10))
    assert sum(len(part.texts(split)) for split in SPLITS) == 10
    assert part.fingerprint() != StoryDataModule().fingerprint()


def test_the_prose_is_cut_into_windows_of_whole_sentences():
    prose = ProseDataModule(fractions=(0.8, 0.0, 0.2))
    train, test = prose.examples("train"), prose.examples("test")
    assert len(train) > 100 and len(test) > 20
    windows = [e.prompt + e.response for e in [*train, *test]]
    assert len(set(windows)) == len(windows)
    text = prose_text()
    assert all(window.strip() in text for window in windows)
    ends = [window.rstrip().rstrip('"')[-1] in ".!?*:" for window in windows]
    assert sum(ends) > 0.9 * len(ends)
    assert all(len(e.response.split()) > 1 for e in train)  # never a single word as a mismatch


def test_story_and_prose_share_nothing():
    story, prose = StoryDataModule(), ProseDataModule()
    check_no_shared_text(
        (text for split in SPLITS for text in story.texts(split)), prose.texts(), n=8, share=1e-9
    )
