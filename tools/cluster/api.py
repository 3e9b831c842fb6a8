"""The cluster's API through the official client; what goes wrong with it is told in one line.

The client is the package `kubernetes`: it brings what a cluster wants of a login (certificates, tokens of
service accounts, plug-ins of the clouds), and its objects are those of the API.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHORT = (5.0, 15.0)
"""Seconds to connect and to wait for an answer of the API."""


class ClusterError(RuntimeError):
    """The cluster does not do what was asked; the message says what and why, in one line."""


class NotThere(ClusterError):
    """What is needed is missing: the object, the permission, the way to the cluster."""


class Conflict(ClusterError):
    """Somebody changed the object between reading and writing it."""


class Unreachable(ClusterError):
    """The API does not answer, or the connection was lost; asking again may help."""


def connect(kubeconfig: Path | None = None, context: str | None = None) -> Any:
    """An `ApiClient` for the cluster that kubectl would use; inside a pod, for the pod's own.

    Raises NotThere where there is neither a kubeconfig nor a service account, or the context is not in it.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise NotThere(
            f"needs the package {error.name}; install it with: pip install 'tritonrec[deploy]'"
        ) from None
    file = (
        str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG", config.KUBE_CONFIG_DEFAULT_LOCATION)
    )
    configuration = client.Configuration()
    try:
        named = kubeconfig is not None or context is not None or "KUBECONFIG" in os.environ
        if named or Path(file).expanduser().exists():
            config.load_kube_config(file, context, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NotThere(
            f"no way to a cluster: {reason}; name a kubeconfig with --kubeconfig or KUBECONFIG"
        ) from None
    # Asking again is decided here, by what was asked, and is told.
    configuration.retries = False
    return client.ApiClient(configuration)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise what goes wrong in the with block as a ClusterError that begins with `what` was wanted."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        kinds = {401: NotThere, 403: NotThere, 404: NotThere, 409: Conflict, 410: Unreachable}
        passing = error.status == 429 or (error.status or 0) >= 500
        kind = Unreachable if passing else kinds.get(error.status or 0, ClusterError)
        hint = {401: "not logged in: ", 403: "no permission: "}.get(error.status or 0, "")
        raise kind(f"{what}: {hint}{_message(error)}") from None
    except urllib3.exceptions.ProtocolError:
        raise Unreachable(f"{what}: the connection was lost") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"{what}: the API does not answer: {' '.join(str(error).split())}") from None


def _message(error: Any) -> str:
    """What the API says, else its status line."""
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return f"{error.status} {error.reason}"
