"""What there is and what stands, for whoever runs the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from browsing.bundle import Manifest
from service.versions.deployment import Deployment
from service.versions.documents import BundleOut, BundlesResponse, RolloutResponse, Status, StepOut, UnderWay
from service.versions.registry import Broken, Found
from service.versions.rollout import Done, Rollouts
from service.versions.steps import Failure

_LEAVING = ("drain", "stop")
_ITS_OWN_FAULT = ("find", "load", "fit")
"""Steps that fail because of the bundle itself; at the others it may be the machine."""


async def listing(rollouts: Rollouts) -> BundlesResponse:
    """Raises `OSError` where the folder cannot be read."""
    entries = await asyncio.to_thread(rollouts.registry.entries)
    router, steps = rollouts.router, rollouts.steps
    way = None
    if steps is not None and rollouts.wanted:
        way = UnderWay(version=rollouts.wanted, step=steps.current, seconds=round(steps.seconds, 3))
    return BundlesResponse(
        serving=router.serving.name,
        canary=router.canary.name if router.canary is not None else None,
        under_way=way,
        bundles=[*(_entry(entry, rollouts) for entry in entries), *_without_folder(entries, rollouts)],
    )


def standing(rollouts: Rollouts, done: Done) -> RolloutResponse:
    router = rollouts.router
    return RolloutResponse(
        changed=done.changed,
        serving=router.serving.name,
        serving_version=router.serving.version,
        canary=router.canary.name if router.canary is not None else None,
        canary_version=router.canary.version if router.canary is not None else None,
        share=router.share,
        steps=[StepOut(step=step, seconds=round(took, 3)) for step, took in done.steps.took.items()],
        seconds=round(done.steps.seconds, 3),
        unfinished=done.unfinished,
    )


def _entry(entry: Found | Broken, rollouts: Rollouts) -> BundleOut:
    if isinstance(entry, Broken):
        return _out(entry.name, None, "broken", entry.reason)
    deployment = next((own for own in rollouts.held if own.version == entry.version), None)
    if deployment is not None:
        out = _of(deployment, rollouts, None, entry.name)
    elif rollouts.steps is not None and rollouts.wanted == entry.name:
        out = _out(entry.name, entry.manifest, "loading", None)
    else:
        failed = rollouts.failures.get(entry.name)
        state: Status = "broken" if failed is not None and failed.step in _ITS_OWN_FAULT else "idle"
        out = _out(entry.name, entry.manifest, state, _failed(failed))
    return out.model_copy(update={"written_at": entry.written})


def _without_folder(entries: Sequence[Found | Broken], rollouts: Rollouts) -> list[BundleOut]:
    """Deployments whose bundle is not in the folder any more."""
    there = {entry.version for entry in entries if isinstance(entry, Found)}
    reason = "its files are gone from the folder: it goes on, and can not be started again"
    return [_of(own, rollouts, reason, own.name) for own in rollouts.held if own.version not in there]


def _of(deployment: Deployment, rollouts: Rollouts, reason: str | None, name: str) -> BundleOut:
    router = rollouts.router
    state: Status = "retiring" if rollouts.steps is not None and rollouts.steps.current in _LEAVING else "loading"
    share = 0.0
    if deployment is router.serving:
        state, share = "serving", 1.0 - router.share
    elif deployment is router.canary:
        state, share = "canary", router.share
    down = deployment.health.down if state in ("serving", "canary") else []
    if down and reason is None:
        clusters = ", ".join(map(str, down))
        reason = f"the engine of cluster {clusters} does not answer: its visitors get the fallback model"
    return _out(name, deployment.bundle.manifest, state, reason, share)


def _out(name: str, manifest: Manifest | None, state: Status, reason: str | None, share: float = 0.0) -> BundleOut:
    training = manifest.training if manifest is not None else None
    return BundleOut(
        name=name,
        version=manifest.version if manifest is not None else None,
        state=state,
        reason=reason,
        share=share,
        method=training.method if training is not None else None,
        clusters=len(manifest.clusters) if manifest is not None else None,
        users=training.users if training is not None else None,
        trained_from=training.window_start if training is not None else None,
        trained_until=training.window_end if training is not None else None,
        written_at=None,
    )


def _failed(failed: Failure | None) -> str | None:
    return f"the last rollout failed at the step {failed.step}: {failed.reason}" if failed is not None else None
