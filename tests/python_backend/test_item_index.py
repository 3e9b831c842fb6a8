from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from python_backend.item_index import BLOCK, NEVER, ItemIndex


def made(items: int = 300, width: int = 8) -> ItemIndex:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(items + 1, width)).astype(np.float32)
    vectors[5] = 0
    return ItemIndex.of(vectors, random.normal(size=items + 1).astype(np.float32))


def test_codes_times_scales_are_the_vectors_to_within_half_a_step() -> None:
    index = made()
    decoded = index.codes[:301] * index.scales[:301, None]
    assert (np.abs(decoded - index.vectors) <= 0.5001 * index.scales[:301, None]).all()
    assert np.abs(index.codes).max() == 127


def test_the_stated_error_is_the_greatest_of_any_item() -> None:
    index = made()
    decoded = index.codes[:301] * index.scales[:301, None].astype(np.float64)
    lost = np.linalg.norm(index.vectors - decoded, axis=1)
    assert (lost <= index.code_error * index.scales[:301] * 1.000001).all()
    assert (lost[index.scales[:301] > 0] / index.scales[:301][index.scales[:301] > 0]).max() == pytest.approx(
        index.code_error, rel=1e-6
    )
    longest = np.linalg.norm([index.vectors, decoded], axis=2).max()
    assert index.longest == pytest.approx(longest, rel=1e-6)


def test_padding_can_never_be_found() -> None:
    index = made()
    assert len(index.codes) == len(index.bias) == 10 * BLOCK
    assert index.bias[0] == NEVER
    assert (index.bias[301:] == NEVER).all()
    assert (index.bias[1:301] > -10).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    vectors = np.full((3, 4), value, np.float32)
    with pytest.raises(ValueError, match="values that are not finite"):
        ItemIndex.of(vectors, np.zeros(3, np.float32))


def test_vectors_and_bias_of_different_catalogues_are_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors \(3, 4\) and bias \(2,\)"):
        ItemIndex.of(np.zeros((3, 4), np.float32), np.zeros(2, np.float32))


def test_an_index_with_a_file_of_another_is_refused_by_its_folder(tmp_path: Path) -> None:
    made().write(tmp_path / "one")
    made(items=600).write(tmp_path / "two")
    (tmp_path / "two" / "bias.npy").rename(tmp_path / "one" / "bias.npy")
    with pytest.raises(ValueError, match="one: the arrays of the index do not fit together"):
        ItemIndex.open(tmp_path / "one")


def test_an_index_that_is_not_complete_is_refused_by_the_missing_file(tmp_path: Path) -> None:
    made().write(tmp_path / "index")
    (tmp_path / "index" / "scales.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"index/scales\.npy"):
        ItemIndex.open(tmp_path / "index")
