"""How the Service of a cluster is asked: as its pods were told to be."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from tritonrec_client.options import Tls

from tools.cluster.service import Service, add_tls_options, tls_given, tls_of
from tools.releases.golden import NotServing

FOLDER = "/etc/tritonrec/tls"
OWN = f"{FOLDER}/tls.key", f"{FOLDER}/tls.crt"


@pytest.mark.parametrize(
    ("environment", "tls"),
    [
        ({}, None),
        ({"TRITONREC_TLS": "off"}, None),
        ({"TRITONREC_TLS": "server"}, Tls(f"{FOLDER}/ca.crt")),
        ({"TRITONREC_TLS": "server", "TRITONREC_TLS_DIR": "/certs"}, Tls("/certs/ca.crt")),
        ({"TRITONREC_TLS": "mutual"}, Tls(f"{FOLDER}/ca.crt", *OWN)),
    ],
)
def test_a_connection_is_encrypted_as_the_pods_settings_say(
    environment: dict[str, str], tls: Tls | None
) -> None:
    assert tls_of(environment) == tls


def test_where_nothing_answers_the_address_is_told() -> None:
    with pytest.raises(NotServing, match="localhost:1: "):
        Service("localhost:1").release()


def test_what_is_given_comes_before_the_settings(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_tls_options(parser)
    (tmp_path / "ca.crt").touch()
    environment = {"TRITONREC_TLS": "mutual"}
    assert tls_given(parser.parse_args([]), environment) == tls_of(environment)
    assert tls_given(parser.parse_args(["--tls"]), environment) == Tls()
    given = parser.parse_args([f"--ca={tmp_path}/ca.crt"])
    assert tls_given(given, environment) == Tls(f"{tmp_path}/ca.crt")
    with pytest.raises(FileNotFoundError):
        tls_given(parser.parse_args(["--key=/nowhere"]), environment)
