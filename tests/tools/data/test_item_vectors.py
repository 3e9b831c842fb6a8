"""Vectors of items that the user brings: what is read, what is noted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tools.config.build import ConfigError, load_config
from tools.config.vectors import VectorsConfig
from tools.data.vectors import has_vector

ITEMS = "item,name\n10,tea\n11,cup\n12,pot\n"
NPY = {"name": "image", "path": "image.npy", "ids": "image.txt"}
PARQUET = {"name": "sound", "path": "sound.parquet", "id": "item", "column": "vector"}


def write_npy(array: Any, ids: str = "11\n10\n", **_: Any) -> dict[str, Any]:
    np.save("image.npy", array)
    Path("image.txt").write_text(ids)
    return NPY


def write_parquet(ids: list[Any], vectors: list[Any] | pa.Array) -> dict[str, Any]:
    pq.write_table(pa.table({"item": ids, "vector": vectors}), "sound.parquet")
    return PARQUET


def shop(files: Any, *vectors: dict[str, Any]) -> Any:
    return files.events().items(ITEMS, vectors=list(vectors))


def test_an_array_of_numpy_comes_in_the_order_of_the_items(files: Any) -> None:
    dataset = shop(files, write_npy(np.array([[0.0, 2.0], [3.0, 4.0]]))).load()
    found = dataset.item_vectors["image"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8], [0, 1], [0, 0]], atol=1e-6)
    assert has_vector(found).tolist() == [False, True, True, False]
    assert dataset.notes == ()


@pytest.mark.parametrize("ids", [np.array([11, 10]), np.array(["11", "10"])])
def test_ids_may_be_an_array_too(files: Any, ids: np.ndarray) -> None:
    write_npy(np.eye(2))
    np.save("ids.npy", ids)
    found = shop(files, {**NPY, "ids": "ids.npy"}).load().item_vectors["image"]
    np.testing.assert_array_equal(found[1:3], [[0, 1], [1, 0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_every_type_of_number_will_do(files: Any, dtype: type) -> None:
    found = shop(files, write_npy(np.array([[0, 2], [3, 4]], dtype))).load().item_vectors["image"]
    np.testing.assert_allclose(found[1], [0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.int8())],
)
def test_a_column_of_lists_will_do_and_null_is_an_item_without(files: Any, kind: pa.DataType) -> None:
    value = np.float16 if kind.value_type == pa.float16() else float
    lists = [None, [value(3), value(4)], [value(0), value(1)]]
    found = shop(files, write_parquet([12, 10, 11], pa.array(lists, kind))).load().item_vectors["sound"]
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8], [0, 1], [0, 0]], atol=1e-6)


def test_lists_of_a_fixed_size_will_do(files: Any) -> None:
    lists = pa.array([[0.0, 1.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    found = shop(files, write_parquet([11, 10], lists)).load().item_vectors["sound"]
    np.testing.assert_allclose(found[1:3], [[0.6, 0.8], [0, 1]], atol=1e-6)


def test_ids_that_are_text_are_matched_as_text(files: Any) -> None:
    write_parquet(["b", "a"], [[0.0, 1.0], [1.0, 0.0]])
    files.events("user,item,timestamp\n1,a,100\n1,b,200\n").items("item\na\nb\n", vectors=[PARQUET])
    np.testing.assert_array_equal(files.load().item_vectors["sound"][1:], [[1, 0], [0, 1]])


def test_many_rows_are_read_in_parts_of_which_some_have_no_vector(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.data.vectors.ROWS_AT_ONCE", 1)
    lists = write_parquet([12, 10, 11], [None, [3.0, 4.0], [0.0, 1.0]])
    array = write_npy(np.array([[0.0, 2.0, 0.0], [3.0, 4.0, 0.0]]))
    found = shop(files, array, lists).load().item_vectors
    assert {name: vectors.shape for name, vectors in found.items()} == {"image": (4, 3), "sound": (4, 2)}
    np.testing.assert_allclose(found["sound"][1:], [[0.6, 0.8], [0, 1], [0, 0]], atol=1e-6)


def test_ids_of_no_item_and_vectors_of_zeros_are_noted(files: Any) -> None:
    dataset = shop(files, write_npy(np.array([[1.0], [0.0], [1.0]]), "10\n11\n99\n")).load()
    assert dataset.notes == (
        "image.npy: 1 ids are of no item, such as '99'; their vectors are left out; 1 vectors are zero and"
        " count as missing",
    )
    assert has_vector(dataset.item_vectors["image"]).tolist() == [False, True, False, False]


def test_large_numbers_have_a_direction_too(files: Any) -> None:
    found = shop(files, write_npy(np.array([[3e30, 4e30], [1e-30, 0.0]]))).load().item_vectors["image"]
    np.testing.assert_allclose(found[1:3], [[1, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda: write_npy(np.ones(3)), ("image.npy", None, None, "[3] of float64; allowed: numbers, [")),
        (lambda: write_npy(np.array([["a"], ["b"]])), ("image.npy", None, None, "of <U1; allowed: numbers")),
        (lambda: write_npy(np.ones((2, 0))), ("image.npy", None, None, "is an array [2, 0]")),
        (lambda: write_npy(np.ones((3, 2))), ("image.txt", None, None, "2 ids; image.npy has 3 vectors")),
        (
            lambda: write_npy(np.array([[1, 2], [np.nan, 1]])),
            ("image.npy", None, 2, "not finite; allowed: finite numbers"),
        ),
        (lambda: write_npy(np.array([[1, 1e300], [1, 1]])), ("image.npy", None, 1, "not finite")),
        (lambda: write_npy(np.eye(2), "10\n10\n"), ("image.txt", "id", 2, "'10' was already in row 1")),
        (lambda: write_npy(np.eye(2), "10\n\n"), ("image.txt", "id", 2, "is empty; every row needs an id")),
        (
            lambda: write_npy(np.eye(2), "7\n8\n"),
            (
                "image.npy",
                None,
                None,
                "none of the 3 items a vector: 2 of its 2 ids are of no item ('7' here",
            ),
        ),
        (
            lambda: write_npy(np.zeros((2, 2))),
            ("image.npy", None, None, "none of the 3 items a vector: 0 of"),
        ),
        (lambda: NPY, ("image.npy", None, None, "cannot be read: ")),
        (lambda: (np.save("image.npy", np.eye(2)), NPY)[1], ("image.txt", None, None, "cannot be read: ")),
        (
            lambda: (Path("image.npy").write_text("not an array"), Path("image.txt").touch(), NPY)[2],
            ("image.npy", None, None, "cannot be read: is no array of NumPy"),
        ),
        (
            lambda: write_parquet([10, 11], [[1.0, 2.0], [1.0]]),
            ("sound.parquet", "vector", 2, "has 1 numbers; allowed: as many as the first vector's 2"),
        ),
        (
            lambda: write_parquet([10, 11], [[1.0, None], [1.0, 2.0]]),
            ("sound.parquet", "vector", 1, "not finite"),
        ),
        (
            lambda: write_parquet([10, 11], [1.0, 2.0]),
            ("sound.parquet", "vector", None, "holds double; allowed: lists of numbers"),
        ),
        (
            lambda: write_parquet([10, 11], pa.array([None, None], pa.list_(pa.float32()))),
            ("sound.parquet", None, None, "holds no vector at all"),
        ),
        (
            lambda: {**write_parquet([10], [[1.0]]), "column": "image"},
            ("sound.parquet", "image", None, "no such column; the file has 'item', 'vector'"),
        ),
        (
            lambda: (Path("sound.parquet").write_text("no Parquet"), PARQUET)[1],
            ("sound.parquet", None, None, "cannot be read: "),
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_what_was_found_and_what_is_allowed(
    files: Any, write: Callable[[], dict[str, Any]], expected: tuple[str, str | None, int | None, str]
) -> None:
    problem = shop(files, write()).problem()
    assert (problem.file, problem.column, problem.row) == expected[:3]
    assert expected[3] in problem.message


def test_a_bad_item_table_is_told_alone(files: Any) -> None:
    files.events().items("item\n10\n10\n11\n", vectors=[write_npy(np.ones((3, 3)))])
    assert files.problem().file == "items.csv"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "image.jpg"}, "path is 'image.jpg'; allowed: .npy, .parquet, .pq"),
        ({"ids": None}, "needs the key ids"),
        ({"column": "vector"}, "needs the key ids, and neither id nor column"),
        ({"path": "image.parquet"}, "needs the keys id and column, and no ids"),
        ({"name": "Image!"}, "name"),
    ],
)
def test_a_section_says_where_the_ids_are(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        VectorsConfig.model_validate({**NPY, **changes})
    assert message in str(refused.value)


def test_two_kinds_of_vectors_have_two_names(tmp_path: Path) -> None:
    section = '[[data.items.vectors]]\nname = "image"\npath = "a.npy"\nids = "a.txt"\n'
    (tmp_path / "shop.toml").write_text(
        'name = "shop"\n[data.events]\npath = "e.csv"\nuser = "u"\nitem = "i"\ntimestamp = "t"\n'
        '[data.items]\npath = "i.csv"\nid = "i"\n' + 2 * section
    )
    with pytest.raises(ConfigError, match=r"data\.items: two item vectors are named 'image'"):
        load_config(tmp_path / "shop.toml")
