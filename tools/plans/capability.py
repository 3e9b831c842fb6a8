"""Compute capabilities: what a plan is made for, and what the cards of this machine have."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Self

QUERY = ("--query-gpu=name,compute_cap", "--format=csv,noheader")
PATIENCE = 30.0
"""Seconds for the driver to answer: the first question after a start wakes it."""


class NoCard(RuntimeError):
    """There is no NVIDIA card here, or nothing that could tell; the message says what was looked for."""


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A compute capability; as text ``9.0``, the way Triton writes it in ``cc_model_filenames``."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``9.0``, ``90``, ``sm90`` or ``SM90``. Raises ValueError."""
        match = re.fullmatch(r"(?:sm)?(\d{1,2})\.?(\d)", text.strip().lower())
        if match is None:
            raise ValueError(f"compute capability {text!r}; allowed is for instance 9.0, 90 or SM90")
        return cls(int(match[1]), int(match[2]))

    @property
    def sm(self) -> str:
        """As it is written in names of files: ``sm90``."""
        return f"sm{self.major}{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Card:
    """One card of this machine."""

    name: str
    capability: Capability

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


def cards_here() -> list[Card]:
    """The cards of this machine, as its driver counts them. Raises NoCard.

    nvidia-smi is asked, which every machine with a driver has; where it is missing, PyTorch.
    """
    if shutil.which("nvidia-smi") is not None:
        result = subprocess.run(
            ["nvidia-smi", *QUERY], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        cards = parse_cards(result.stdout) if result.returncode == 0 else []
        if cards:
            return cards
        said = (result.stdout + result.stderr).strip().splitlines()
        raise NoCard(f"nvidia-smi names no card: {said[0] if said else 'it says nothing'}")
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            properties = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())]
            return [Card(each.name, Capability(each.major, each.minor)) for each in properties]
    raise NoCard("this machine has no NVIDIA card, or no driver: nvidia-smi is not on the PATH")


def parse_cards(listing: str) -> list[Card]:
    """The cards in the answer of ``nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader``."""
    cards = []
    for line in listing.splitlines():
        name, comma, capability = line.rpartition(",")
        # A card that has fallen off the bus is listed with an error in place of its numbers.
        if comma and re.fullmatch(r"\s*\d+\.\d\s*", capability):
            cards.append(Card(name.strip(), Capability.parse(capability)))
    return cards


def capabilities_here() -> list[Capability]:
    """The different capabilities of this machine's cards, ascending. Raises NoCard."""
    return sorted({card.capability for card in cards_here()})
