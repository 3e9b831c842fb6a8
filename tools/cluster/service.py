"""What the cluster's Service answers: as clients ask it, over new connections."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import RECOMMEND, release_from_wire
from tritonrec_client.options import Tls

from python_backend.release import Release
from tools.releases.golden import NotServing, check_golden_pages
from tools.serving.server import ask_anonymously

SETTLE = 30.0
"""Seconds for which a Service may still lead to pods that are on their way out, or to none."""
AGAIN = 0.5


def tls_of(environment: Mapping[str, str]) -> Tls | None:
    """How the servers of a cluster encrypt, as the settings of their pods say (see tools/config/pod.py)."""
    mode = environment.get("TRITONREC_TLS") or "off"
    if mode == "off":
        return None
    folder = Path(environment.get("TRITONREC_TLS_DIR") or "/etc/tritonrec/tls")
    own = (str(folder / "tls.key"), str(folder / "tls.crt")) if mode == "mutual" else (None, None)
    return Tls(str(folder / "ca.crt"), *own)


def add_tls_options(group: argparse._ActionsContainer) -> None:
    """Add to `group` how a Service is to be asked."""
    group.add_argument("--tls", action="store_true", help="encrypted, by the system's authorities")
    for name, text in (
        ("ca", "encrypted, by this authority (PEM; default: what TRITONREC_TLS says)"),
        ("certificate", "our own, for mutual TLS (PEM)"),
        ("key", "of our certificate (PEM)"),
    ):
        group.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)


def tls_given(options: argparse.Namespace, environment: Mapping[str, str]) -> Tls | None:
    """What `add_tls_options` added, as it was given; else `tls_of` the environment. Raises OSError."""
    if not (options.tls or options.ca or options.certificate or options.key):
        return tls_of(environment)
    paths: list[Path | None] = [options.ca, options.key, options.certificate]
    return Tls(*(None if path is None else str(path.resolve(strict=True)) for path in paths))


class Service:
    """The `recommend` at `address` (gRPC), behind which there may be several pods.

    A Service picks a pod per connection, and gRPC would share one connection between all clients of this
    process; here every question has a connection of its own.
    """

    def __init__(self, address: str, tls: Tls | None = None, *, settle: float = SETTLE) -> None:
        self.address = address
        self._tls = tls
        self._settle = settle

    def release(self) -> str:
        """The release that answers. Raises NotServing where none does, or several do."""
        with self._connection() as client:
            try:
                result = ask_anonymously(client, RECOMMEND.name)
            except InferenceServerException as error:
                raise NotServing(f"{self.address}: {error.message()}") from error
        names = [output.name for output in result.get_response().outputs if output.name.endswith("_release")]
        found = {release_from_wire(int(result.as_numpy(name)[0, 0])) for name in names}
        if len(found) != 1:
            raise NotServing(f"{self.address}: stages of {', '.join(sorted(found)) or 'no release'} answer")
        return found.pop()

    def require(self, release: Release, times: int, *, with_rules: bool, done: Callable[[int], None]) -> None:
        """Ask the golden requests of `release` over `times` connections, one after the other.

        A connection that leads to no pod, or to another release, is made anew until the Service has settled.
        Raises CheckFailed, which says what is answered instead.
        """
        for number in range(times):
            self._patiently(lambda: self._check(release, with_rules))
            done(number + 1)

    def require_name(self, release: str) -> None:
        """Raise NotServing unless the release called `release` answers once the Service has settled."""

        def check() -> None:
            if (found := self.release()) != release:
                raise NotServing(f"{self.address}: release {found} answers; expected {release}")

        self._patiently(check)

    def _check(self, release: Release, with_rules: bool) -> None:
        with self._connection() as client:
            check_golden_pages(client, release, with_rules=with_rules)

    def _patiently(self, check: Callable[[], None]) -> None:
        end = time.monotonic() + self._settle
        while True:
            try:
                return check()
            except NotServing:
                if time.monotonic() > end:
                    raise
                time.sleep(AGAIN)

    def _connection(self) -> grpcclient.InferenceServerClient:
        tls = self._tls
        return grpcclient.InferenceServerClient(
            self.address,
            ssl=tls is not None,
            root_certificates=tls.root_certificates if tls else None,
            private_key=tls.private_key if tls else None,
            certificate_chain=tls.certificate_chain if tls else None,
            channel_args=[("grpc.use_local_subchannel_pool", 1)],
        )
