"""Whether clients of one release can be served by another."""

from __future__ import annotations

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import DataType
from tritonrec_client.contract import RECOMMEND

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.serving.model_files import CONFIG, read_config


def require_compatible(release: Release, active: Release) -> list[str]:
    """Notes on what changes for clients when `release` takes the place of `active`, a line each.

    Raises CheckFailed where a client of `active` would get errors: its inputs must be all that `release`
    takes, and `release` must give every output, with the same types. Widths may differ.
    """
    ours, theirs = (read_config(each.path / "models" / RECOMMEND.name / CONFIG) for each in (release, active))
    notes = []
    for kind, new, old in (
        ("input", _tensors(ours.input), _tensors(theirs.input)),
        ("output", _tensors(ours.output), _tensors(theirs.output)),
    ):
        missing = old.keys() - new.keys()
        unknown = new.keys() - old.keys() if kind == "input" else set()
        for name in sorted(missing | unknown):
            lacks, has = (release, active) if name in missing else (active, release)
            raise CheckFailed(f"{kind} {name}: release {has.name} has it, {lacks.name} does not")
        for name, (dtype, width) in old.items():
            new_dtype, new_width = new[name]
            if new_dtype != dtype:
                raise CheckFailed(f"{kind} {name} is {new_dtype}; release {active.name} has {dtype}")
            if new_width != width:
                notes.append(f"{kind} {name} is {new_width} wide; release {active.name} has {width}")
    return notes


def _tensors(tensors: Message) -> dict[str, tuple[str, int]]:
    return {
        each.name: (DataType.Name(each.data_type), each.dims[0])
        for each in tensors  # type: ignore[attr-defined]
    }
