"""Processes as /proc shows them."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started, sorted; none where it is gone."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for children in lists for child in children.read_text().split())


def started_at(pid: int) -> int:
    """When the process `pid` started, in clock ticks since the machine did."""
    # pid (program) state …; the program's name may hold spaces
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
