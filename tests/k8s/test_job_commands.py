"""The jobs' commands are ones that the programs take."""

from __future__ import annotations

import argparse

import pytest
from manifests import pods, rendered
from variants import VARIANTS, Variant, words

from tools import import_release, make_secrets, refresh_release, rollout, verify_release

PARSERS = {
    "tools/import_release.py": import_release._parser,
    "tools/make_secrets.py": make_secrets._parser,
    "tools/refresh_release.py": refresh_release._parser,
    "tools/rollout.py": rollout._parser,
    "tools/verify_release.py": verify_release._parser,
}


@pytest.mark.parametrize("variant", VARIANTS, ids=words)
def test_every_job_gives_its_program_what_it_takes(variant: Variant) -> None:
    for _, pod in pods(rendered(*variant)):
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
            program, *options = container.get("args", [""])
            parser = PARSERS.get(program.removeprefix("/opt/tritonrec/"))
            if parser is not None:
                assert isinstance(parser().parse_args(options), argparse.Namespace)
