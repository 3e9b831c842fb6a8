"""How the Service of a cluster is asked: as its pods were told to be."""

from __future__ import annotations

import pytest
from tritonrec_client.options import Tls

from tools.cluster.service import Service, tls_of
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
