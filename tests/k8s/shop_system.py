"""A small, made-up shop in the cluster: an overlay with its own build.toml, and volumes that pods share."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from manifests import ROOT, Json, of_kind, pods, rendered
from pod_process import Pod

sys.path.append(str(ROOT / "tests" / "server"))  # the shop is theirs
from tiny import TOML, Build, write_shop

from tools.serving.server import Ports


def shop_toml() -> str:
    """The shop's configuration as somebody would write it for the cluster."""
    text = TOML.format(folder="/data").replace("lmdb:///data/build/store", "lmdb:///store")
    # Quickly, not well.
    return text.replace("/data/build", "/releases").replace("epochs = 2", "epochs = 1")


def shop_objects(overlay: str, tuning: str | None) -> tuple[Json, ...]:
    """The overlay with that configuration, by somebody's own kustomization, as docs/runbook.md has it."""
    maps: list[Json] = [
        {"name": "tritonrec-build", "behavior": "replace", "literals": [f"build.toml={shop_toml()}"]}
    ]
    if tuning is not None:
        maps.append({"name": "tritonrec-tuning", "literals": [f"tuning.toml={tuning}"]})
    return rendered(overlay, (), json.dumps({"configMapGenerator": maps}))


@dataclass
class System:
    """The pods of an overlay in `folder`, with the `secrets` that there are by now, and somebody's `tuning`.

    `addresses` maps the cluster's names to addresses here.
    """

    overlay: str
    folder: Path
    secrets: Mapping[str, Mapping[str, str]]
    addresses: dict[str, str] = field(default_factory=dict)
    tuning: str | None = None

    def __post_init__(self) -> None:
        self.objects = shop_objects(self.overlay, self.tuning)
        self.ports = Ports.free()
        self.addresses["tritonrec.tritonrec.svc:8001"] = self.address
        self.volumes = self.folder / "volumes"

    @property
    def address(self) -> str:
        """Where the server's gRPC is."""
        return f"127.0.0.1:{self.ports.grpc}"

    def volume(self, claim: str) -> Path:
        """What a PersistentVolumeClaim holds."""
        assert claim in {each["metadata"]["name"] for each in of_kind(self.objects, "PersistentVolumeClaim")}
        path = self.volumes / claim
        path.mkdir(parents=True, exist_ok=True)
        return path

    def pod(self, owner: str, name: str = "", **annotations: str) -> Pod:
        """A pod of `owner`, kind/name, in a folder called `name`; a job's data are there."""
        template = dict(pods(self.objects))[owner]
        folder = self.folder / (name or owner.replace("/", "-"))
        folder.mkdir()
        for volume in template["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                (folder / volume["name"]).symlink_to(self.volume(claim["claimName"]))
        extra = {
            "TRITONREC_GRPC_PORT": str(self.ports.grpc),
            "TRITONREC_HTTP_PORT": str(self.ports.http),
            "TRITONREC_METRICS_PORT": str(self.ports.metrics),
        }
        pod = Pod(
            self.objects,
            template,
            folder,
            self.secrets,
            annotations={f"tritonrec/{key}": value for key, value in annotations.items()},
            extra=extra if owner == "Deployment/tritonrec" else {},
            addresses=self.addresses,
        )
        if (folder / "data").is_dir():
            write_shop(folder / "data")
        return pod

    @property
    def known_user(self) -> int:
        """Somebody with a history."""
        (self.folder / "look").mkdir(exist_ok=True)
        build: Build = write_shop(self.folder / "look")
        return build.known_users[5]  # the first ones have more than the models see
