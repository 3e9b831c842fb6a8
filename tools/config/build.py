"""The one TOML file that says what the data looks like and how a release is built from it."""

from __future__ import annotations

import os
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureField, Kind
from tools.config.channels import ChannelConfig, MergeConfig, check_channels
from tools.config.compression import CompressConfig
from tools.config.feedback import FeedbackConfig, PrivacyConfig, RefreshConfig
from tools.config.gates import GatesConfig
from tools.config.gpu import GpuConfig, Profile
from tools.config.rankers import BlendConfig, RankerConfig, check_rankers
from tools.config.toml_file import BASE, read_toml
from tools.config.toml_file import ConfigError as ConfigError
from tools.config.training import DistributedConfig, RankConfig, RerankConfig, RetrieveConfig, Section
from tools.config.vectors import VectorsConfig
from tools.data.problems import shown

STORE = "TRITONREC_STORE"
"""The environment variable that takes the place of a file's ``store.url``, so that one setting of a cluster
tells servers and builds alike."""

PROFILE = "TRITONREC_PROFILE"
"""The environment variable with the profile that a cluster serves in; where that one needs artifacts of its
own, builds write them, whatever the file says."""

Format = Literal["csv", "tsv", "parquet"]
TimestampUnit = Literal["s", "ms", "us", "ns", "iso8601"]
Column = Annotated[str, Field(min_length=1)]

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DEFAULT_SIZES = Sizes()


class Source(Section):
    """A file. A relative `path` starts at the working directory, as on the command line."""

    path: Path
    format: Format | None = None
    """By default what the path's suffix says: .csv, .tsv, .tab, .parquet or .pq; .gz may follow for text."""

    @model_validator(mode="after")
    def _format_is_known(self) -> Self:
        if self.format is None and self._suffix not in _SUFFIXES:
            raise ValueError(
                f"path is '{self.path}', whose suffix does not tell the format; "
                f"set format to one of {', '.join(get_args(Format))}"
            )
        return self

    @property
    def _suffix(self) -> str:
        path = self.path.with_suffix("") if self.path.suffix == ".gz" else self.path
        return path.suffix.lower()

    @property
    def resolved_format(self) -> Format:
        """How the file is read."""
        return self.format or _SUFFIXES[self._suffix]


class EventsConfig(Source):
    """[data.events]: who did what, when; the names of the columns that say so."""

    user: Column
    item: Column
    timestamp: Column
    timestamp_unit: TimestampUnit = "s"
    """What a number in the timestamp column counts since 1970 (UTC), or iso8601 for written dates. Columns
    that Parquet itself types as timestamp or date need no unit."""
    event: Column | None = None
    """The column with an event's type; needs `keep`."""
    keep: tuple[str, ...] = ()
    """The types of event to learn from; the others are ignored."""
    rating: Column | None = None
    """The column with a rating; needs `min_rating`."""
    min_rating: float | None = Field(None, allow_inf_nan=False)
    """Events with a lower rating, or none, are ignored."""
    repeats: Literal["last", "first"] = "last"
    """Which event counts where a user meets an item again: an item is in a history once."""

    @model_validator(mode="after")
    def _filters_are_complete(self) -> Self:
        if (self.event is None) != (not self.keep):
            raise ValueError("event and keep belong together: the column, and the types to keep")
        if (self.rating is None) != (self.min_rating is None):
            raise ValueError(
                "rating and min_rating belong together: the column, and the least rating to keep"
            )
        return self


class FeatureColumn(Section):
    """[[data.items.features]] and [[data.users.features]]: one column that describes an item or a user."""

    column: Column
    kind: Kind
    name: Column | None = None
    """By default the column's name up to a colon (RecBole writes types behind one: `age:token`)."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Between the values of a multi column in text files; `|` by default."""
    missing: tuple[str, ...] = ()
    """What the file writes where it has no value, besides nothing at all: "N/A", "unknown", …"""
    slots: int | None = None
    buckets: int = 10
    min_count: int | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.separator is not None and self.kind != "multi":
            raise ValueError(f"separator is for the kind multi; {self.column!r} is {self.kind}")
        self.field  # noqa: B018 - raises ValueError where slots, buckets or min_count do not fit
        return self

    @cached_property
    def field(self) -> FeatureField:
        """What the feature encoder is asked to make of the column."""
        name = self.name or self.column.split(":")[0] or self.column
        return FeatureField(name, self.kind, self.slots, self.buckets, self.min_count)


class TableConfig(Source):
    """[data.users]: one row per user; users without a row have no features."""

    id: Column
    features: tuple[FeatureColumn, ...] = ()

    @property
    def fields(self) -> tuple[FeatureField, ...]:
        """The features as the encoder takes them."""
        return tuple(feature.field for feature in self.features)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [feature.field.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two features are named {name!r}; give one of them another `name`")
        return self


class ItemsConfig(TableConfig):
    """[data.items]: one row per item; without this table the items are those of the events."""

    title: Column | None = None
    """The column with what people call an item; by default its id."""
    vectors: tuple[VectorsConfig, ...] = ()

    @model_validator(mode="after")
    def _vectors_have_names_of_their_own(self) -> Self:
        names = [vectors.name for vectors in self.vectors]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two item vectors are named {name!r}; give one of them another `name`")
        return self


class DataConfig(Section):
    """[data]: the files to learn from."""

    events: EventsConfig
    items: ItemsConfig | None = None
    users: TableConfig | None = None


class ContractConfig(Section):
    """[contract]: the widths of the release's tensors; see `tritonrec_client.contract.Sizes`."""

    candidates: int = _DEFAULT_SIZES.candidates
    results: int = _DEFAULT_SIZES.results
    history: int = _DEFAULT_SIZES.history
    seen: int = _DEFAULT_SIZES.seen
    session: int = _DEFAULT_SIZES.session
    user_features: int = _DEFAULT_SIZES.user_features

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        self.sizes()
        return self

    def sizes(self) -> Sizes:
        """The same as the contract's own type. Raises ValueError where a width is not allowed."""
        return Sizes(**self.model_dump())


class StoreConfig(Section):
    """[store]: where the users' histories and features are kept for serving."""

    url: Annotated[str, Field(pattern=r"^(lmdb|redis|rediss)://.+")] = "lmdb://build/store"


class BuildConfig(Section):
    """A whole configuration."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """What the build is called in folders and reports."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Where every random choice starts: ties in time, training, negatives."""
    output: Path = Path("build")
    """The folder that releases are written into."""
    profiles: tuple[Profile, ...] = ()
    """What releases can be served in besides the profiles that need no GPU."""
    data: DataConfig
    contract: ContractConfig = ContractConfig()
    store: StoreConfig = StoreConfig()
    retrieve: RetrieveConfig = Field(default_factory=lambda: RetrieveConfig.model_validate({}))
    rank: RankConfig = Field(default_factory=lambda: RankConfig.model_validate({}))
    channels: tuple[ChannelConfig, ...] = ()
    """How candidates are found; by default by the query tower of [retrieve] alone."""
    merge: MergeConfig = Field(default_factory=lambda: MergeConfig.model_validate({}))
    rankers: tuple[RankerConfig, ...] = ()
    """What scores them; by default the ranker of [rank] alone."""
    blend: BlendConfig = BlendConfig()
    rerank: RerankConfig = Field(default_factory=lambda: RerankConfig.model_validate({}))
    distributed: DistributedConfig = Field(default_factory=lambda: DistributedConfig.model_validate({}))
    compress: CompressConfig = Field(default_factory=lambda: CompressConfig.model_validate({}))
    gates: GatesConfig = Field(default_factory=lambda: GatesConfig.model_validate({}))
    feedback: FeedbackConfig = Field(default_factory=lambda: FeedbackConfig.model_validate({}))
    refresh: RefreshConfig = Field(default_factory=lambda: RefreshConfig.model_validate({}))
    privacy: PrivacyConfig = Field(default_factory=lambda: PrivacyConfig.model_validate({}))
    gpu: GpuConfig = Field(default_factory=lambda: GpuConfig.model_validate({}))

    @model_validator(mode="after")
    def _explored_places_are_there(self) -> Self:
        if self.rerank.exploration.places > self.sizes.results:
            raise ValueError(
                f"rerank.exploration.places is {self.rerank.exploration.places}; a page has"
                f" {self.sizes.results} places"
            )
        return self

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        check_channels(self.channels, self.sizes)
        check_rankers(self.rankers, self.sizes)
        if self.profiles and (self.channels or self.rankers):
            raise ValueError(
                f"profiles is {', '.join(self.profiles)}; with [[channels]] or [[rankers]] none is possible:"
                " such a release is served on CPUs"
            )
        return self

    @property
    def sizes(self) -> Sizes:
        """The widths of the build's tensors."""
        return self.contract.sizes()


def load_config(path: str | Path) -> BuildConfig:
    """Read and check the TOML file at `path`, laid over the one that its key `base` names, if it has one.

    Raises ConfigError, which lists every problem: the file, the key, what was found, what is allowed.
    """
    content, place = read_toml(Path(path))
    if url := os.environ.get(STORE):
        content["store"] = {"url": url}
    served, profiles = os.environ.get(PROFILE), content.get("profiles", [])
    if served in get_args(Profile) and isinstance(profiles, list) and served not in profiles:
        content["profiles"] = [*profiles, served]
    try:
        return BuildConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError([f"{place}: {_describe(dict(problem))}" for problem in error.errors()]) from error


def require_teacher(config: BuildConfig) -> None:
    """Raise ConfigError where `config` names a teacher that is not there, before any work is done for it."""
    distil = config.retrieve.distil
    if distil is not None and not distil.teacher.is_file():
        raise ConfigError(
            [
                f"retrieve.distil.teacher: found '{distil.teacher}', which is no file; allowed: a model.pt"
                " that tools/train_large.py wrote"
            ]
        )


def _describe(error: dict[str, Any]) -> str:
    """One of pydantic's errors as a person would write it."""
    place: tuple[str | int, ...] = error["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    message: str = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        close = get_close_matches(str(place[-1]), known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return f"{key}: is not a known key; {meant}allowed here: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{key}: is missing and has no default"
    if error["type"] == "value_error":  # a check of a whole section names its keys itself
        return f"{key or 'the file'}: {message}"
    allowed = message.removeprefix("Input should be ")
    return f"{key}: found {shown(error['input'])}; allowed: {allowed}"


def _known_keys(place: tuple[str | int, ...]) -> list[str]:
    """The keys of the section at `place`."""
    section: type[BaseModel] = BuildConfig
    for part in place:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation) or section
    return [*section.model_fields, *([] if place else [BASE])]


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as ``ItemsConfig | None`` or ``tuple[FeatureColumn, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_of(part))), None)
