"""Overlays, alone and with components: everything that the tests render."""

from __future__ import annotations

from manifests import OVERLAYS

Variant = tuple[str, tuple[str, ...]]

NO_REDIS = {"edge"}
"""Overlays that have no Redis to replace."""

COMPONENTS_ON_TOP = (
    "external-redis",
    "gateway",
    "http",
    "keda",
    "monitoring",
    "mutual-tls",
    "oci-releases",
    "s3-releases",
    "tls",
    "tracing",
)

TOGETHER = (
    ("monitoring", "keda", "gateway", "tracing", "external-redis", "s3-releases"),
    ("monitoring", "tls", "tracing", "oci-releases"),
    ("monitoring", "mutual-tls"),
    ("gateway", "http", "s3-releases"),
)


def _fits(overlay: str, components: tuple[str, ...]) -> bool:
    return not (overlay in NO_REDIS and ({"external-redis", "keda"} & set(components)))


BARE: tuple[Variant, ...] = tuple((overlay, ()) for overlay in OVERLAYS)
"""What a cluster without any CRD accepts."""

VARIANTS: tuple[Variant, ...] = (
    *BARE,
    *(("cpu", (name,)) for name in COMPONENTS_ON_TOP),
    *((overlay, names) for overlay in ("gpu", "edge") for names in TOGETHER if _fits(overlay, names)),
)


def words(variant: Variant) -> str:
    overlay, components = variant
    return "+".join((overlay or "k8s", *components))
