"""Which library makes plans, and which card they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.plans.capability import Capability, Card, NoCard, cards_here, parse_cards
from tools.plans.library import RTX, TENSORRT, Library, LibraryMissing, find_library, library_version

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("text", ["9.0", "90", "sm90", "SM90", " 9.0\n"])
def test_a_capability_is_read_however_people_write_it(text: str) -> None:
    assert Capability.parse(text) == Capability(9, 0)


def test_a_capability_is_written_as_triton_and_as_files_names_want_it() -> None:
    capability = Capability.parse("12.0")

    assert (str(capability), capability.sm) == ("12.0", "sm120")
    assert Capability(8, 9) < Capability(9, 0) < Capability(12, 0)


@pytest.mark.parametrize("text", ["", "nine", "9", "9.0.1", "900.1"])
def test_what_is_no_capability_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed is for instance 9\.0, 90 or SM90"):
        Capability.parse(text)


def test_cards_are_read_from_the_drivers_list() -> None:
    listing = "NVIDIA H200, 9.0\nNVIDIA L4, 8.9\n"

    assert parse_cards(listing) == [
        Card("NVIDIA H200", Capability(9, 0)),
        Card("NVIDIA L4", Capability(8, 9)),
    ]


@pytest.mark.parametrize("listing", ["", "No devices were found\n", "NVIDIA H200, [Unknown Error]\n"])
def test_a_list_without_a_card_that_works_has_none(listing: str) -> None:
    assert parse_cards(listing) == []


def fake_driver(folder: Path, answer: str, status: int) -> str:
    """A PATH whose nvidia-smi answers so."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\nexit {status}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_the_cards_of_a_machine_are_what_its_driver_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fake_driver(tmp_path, "NVIDIA L40S, 8.9", 0))

    assert [str(card) for card in cards_here()] == ["NVIDIA L40S (compute capability 8.9)"]


def test_a_driver_without_a_card_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", fake_driver(tmp_path, "NVIDIA-SMI has failed", 9))

    with pytest.raises(NoCard, match="nvidia-smi names no card: NVIDIA-SMI has failed"):
        cards_here()


def test_without_any_library_one_line_says_how_to_get_one() -> None:
    with pytest.raises(LibraryMissing) as missing:
        find_library(())

    assert "\n" not in str(missing.value)
    assert "pip install tensorrt" in str(missing.value)


def test_only_tensorrt_itself_makes_what_is_served() -> None:
    assert Library(None, TENSORRT, "10.16.0.72").ships
    assert not Library(None, RTX, "1.7.1.116").ships
    assert Library(None, TENSORRT, "10.16.0.72").label == "tensorrt-10.16.0.72"


def test_tensorrt_for_rtx_knows_the_cards_that_it_compiles_for(rtx: Library) -> None:
    named = rtx.named_capabilities

    assert named is not None
    assert {Capability(8, 0), Capability(8, 9), Capability(12, 0)} <= set(named)
    assert Capability(9, 0) not in named


@pytest.mark.parametrize(
    ("number", "version"), [(101600, "10.16.0"), (110400, "11.4.0"), (101303, "10.13.3")]
)
def test_the_version_of_a_shared_library_is_a_number(number: int, version: str) -> None:
    assert library_version(number) == version


def test_what_serves_and_what_makes_plans_can_do_without_what_builds_releases() -> None:
    """NVIDIA's image has neither torch nor onnx."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'pandas', 'pyarrow', 'scipy')));"
        "import tools.make_plans, tools.serve_pod, tools.serve"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients'}"}

    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
