"""Kinds of arguments that several commands take; what is wrong with one is told as found and allowed."""

from __future__ import annotations

import argparse


def above_zero(text: str) -> int:
    """A whole number of at least 1. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is a whole number of at least 1")
    return int(text)


def seed(text: str) -> int:
    """A whole number of at least 0. Raises ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}; a seed is a whole number of at least 0")
    return int(text)
