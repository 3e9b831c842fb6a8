"""Make Secrets with random values where nobody supplied them; those that are there stay as they are.

Applying manifests cannot draw a password, and one that stands in a file is none.
"""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.cluster.api import ClusterError, Conflict, connect, told

OK, FAILED = 0, 1
BYTES = 24
"""Random bytes of a value; it is written in hexadecimal, which needs no quoting anywhere."""
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

EXAMPLES = """\
examples:
  python tools/make_secrets.py --secret=tritonrec-redis/password --secret=tritonrec-control/key
  python tools/make_secrets.py --namespace=tritonrec --context=staging --secret=tritonrec-control/key

exit status: 0 all are there, 1 the cluster refused or did not answer, 2 bad usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        namespace = options.namespace or OWN_NAMESPACE.read_text(encoding="utf-8").strip()
        api = connect(options.kubeconfig, options.context)
        for name, key in options.secret:
            print(f"secret {namespace}/{name}: {_make(api, namespace, name, key)}", flush=True)
    except OSError as error:
        print(f"make_secrets.py: name a namespace: {error}", file=sys.stderr)
        return FAILED
    except ClusterError as error:
        print(f"make_secrets.py: {error}", file=sys.stderr)
        return FAILED
    return OK


def _make(api: Any, namespace: str, name: str, key: str) -> str:
    """Create it, and never read it; what became of it, in words."""
    from kubernetes import client

    labels = {
        "app.kubernetes.io/name": "tritonrec",
        "app.kubernetes.io/instance": "tritonrec",
        "app.kubernetes.io/component": "secrets",
        "app.kubernetes.io/part-of": "tritonrec",
        "app.kubernetes.io/managed-by": "make_secrets",
    }
    secret = client.V1Secret(
        metadata=client.V1ObjectMeta(name=name, labels=labels),
        type="Opaque",
        string_data={key: secrets.token_hex(BYTES)},
    )
    try:
        with told(f"creating secret {namespace}/{name}"):
            client.CoreV1Api(api).create_namespaced_secret(namespace, secret, _request_timeout=(5.0, 15.0))
    except Conflict:
        return "is there already, and stays as it is"
    return f"made, with a random {key}"


def _secret(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)/([A-Za-z0-9._-]{1,253})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed is the name of a Secret / a key in it")
    return match[1], match[3]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/make_secrets.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--secret", type=_secret, action="append", required=True, metavar="NAME/KEY", help="may be repeated"
    )
    parser.add_argument("--namespace", metavar="NAME", help="default: the pod's own")
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="default: kubectl's, or the pod's own"
    )
    parser.add_argument("--context", metavar="NAME", help="default: the kubeconfig's current one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
