"""[[data.items.vectors]]: vectors of items that the user brings, from whatever made them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from tools.config.training import Section

PARQUET = (".parquet", ".pq")


class VectorsConfig(Section):
    """One kind of vectors: of images, sounds, texts, …

    Either a Parquet file with a column of ids and a column of lists, or an array of NumPy, ``[n, width]``,
    beside a file with the id of each of its rows.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """What they are called: image, audio, text, …"""
    path: Path
    """A .npy or .parquet file; a relative path starts at the working directory."""
    ids: Path | None = None
    """For .npy: a text file with one id per line, in the order of the rows, or a .npy of ids."""
    id: Annotated[str, Field(min_length=1)] | None = None
    """For Parquet: the column with the items' ids."""
    column: Annotated[str, Field(min_length=1)] | None = None
    """For Parquet: the column with the vectors, as lists of numbers; null where an item has none (pyarrow
    reads nulls from lists of any size, not from lists of a fixed size)."""

    @property
    def is_parquet(self) -> bool:
        """Whether `path` is a Parquet file; it is an array of NumPy otherwise."""
        return self.path.suffix.lower() in PARQUET

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (self.path,) if self.ids is None else (self.path, self.ids)

    @model_validator(mode="after")
    def _says_where_the_ids_are(self) -> Self:
        if self.is_parquet:
            if self.id is None or self.column is None or self.ids is not None:
                raise ValueError("a Parquet file of vectors needs the keys id and column, and no ids")
        elif self.path.suffix.lower() != ".npy":
            raise ValueError(f"path is '{self.path}'; allowed: .npy, {', '.join(PARQUET)}")
        elif self.ids is None or self.id is not None or self.column is not None:
            raise ValueError("a .npy file of vectors needs the key ids, and neither id nor column")
        return self
