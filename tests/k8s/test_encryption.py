"""The server's container with the TLS components, with certificates of an authority of the tests' own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pod_process import Pod
from toy_pod import toy_release
from tritonrec_client import Client, RecommendError, Retry, Tls

NAME = "tritonrec.tritonrec.svc"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def sign_certificates(folder: Path) -> None:
    """The files of the Secret: an authority, and a certificate of its own for server and client."""
    key = ("-newkey", "rsa:2048", "-nodes")
    ca_key, request, names = folder / "ca.key", folder / "request.pem", folder / "names.cnf"
    openssl(
        "req",
        "-x509",
        *key,
        "-keyout",
        ca_key,
        "-out",
        folder / "ca.crt",
        "-subj",
        "/CN=authority",
        "-days",
        "1",
    )
    openssl("req", *key, "-keyout", folder / "tls.key", "-out", request, "-subj", f"/CN={NAME}")
    names.write_text(f"subjectAltName=DNS:{NAME},IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    openssl(
        "x509", "-req", "-in", request, "-CA", folder / "ca.crt", "-CAkey", ca_key, "-CAcreateserial",
        "-days", "1", "-extfile", names, "-out", folder / "tls.crt",
    )  # fmt: skip
    for extra in (ca_key, request, names):
        extra.unlink()


@contextmanager
def encrypted(new_pod: Callable[..., Pod], component: str) -> Iterator[tuple[Pod, str, Path]]:
    """A pod that serves with a component, its address and its certificates."""
    pod = new_pod(("cpu", (component,)))
    toy_release(pod.folder / "releases", "0123456789ab")
    sign_certificates(pod.folder / "tls")
    pod.run("verify")
    with pod.running("triton") as process:
        pod.start("triton", process)
        yield pod, f"127.0.0.1:{pod.extra['TRITONREC_GRPC_PORT']}", pod.folder / "tls"


def gets_a_page(address: str, tls: Tls | None) -> bool:
    with Client(address, timeout=5, retry=Retry(attempts=1), tls=tls) as client:
        try:
            return bool(client.recommend().items)
        except RecommendError:
            return False


def require_no_http(pod: Pod) -> None:
    """Nothing is offered in the clear but metrics."""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(pod.extra["TRITONREC_HTTP_PORT"]))) != 0


@pytest.mark.server
def test_only_who_shows_a_certificate_of_the_authority_gets_a_page(new_pod: Callable[..., Pod]) -> None:
    with encrypted(new_pod, "mutual-tls") as (pod, address, folder):
        ca, own = str(folder / "ca.crt"), (str(folder / "tls.key"), str(folder / "tls.crt"))

        assert gets_a_page(address, Tls(ca, *own))
        assert not gets_a_page(address, Tls(ca))
        assert not gets_a_page(address, None)
        assert all(pod.passes("triton", probe) for probe in ("readinessProbe", "livenessProbe"))
        require_no_http(pod)


@pytest.mark.server
@pytest.mark.slow
def test_who_knows_the_authority_gets_a_page_and_who_does_not_encrypt_gets_none(
    new_pod: Callable[..., Pod],
) -> None:
    with encrypted(new_pod, "tls") as (pod, address, folder):
        assert gets_a_page(address, Tls(str(folder / "ca.crt")))
        assert not gets_a_page(address, None)
        assert pod.passes("triton", "readinessProbe")
        require_no_http(pod)
