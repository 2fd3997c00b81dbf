"""One registry's observers: one for each bundle that is served."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from browsing.bundle import Bundle
from service.monitoring.families import Families
from service.monitoring.observer import Observer


class Monitoring:
    """`half_life`: seconds after which a request weighs half as much. `clock`: seconds that never jump."""

    def __init__(
        self, registry: CollectorRegistry, half_life: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._families = Families(registry)
        self._half_life = half_life
        self._clock = clock
        self._observers: dict[str, Observer] = {}

    def watch(self, bundle: Bundle) -> Observer:
        """An observer of a bundle that is served from now on. It begins with nothing, even where there is one of the
        same version, whose series it takes over."""
        version = bundle.manifest.version
        self._families.remove(version)

        def removed(observer: Observer) -> None:
            if self._observers.get(version) is observer:  # else another has taken its place
                del self._observers[version]
                self._families.remove(version)

        observer = Observer(bundle, self._families, self._half_life, self._clock, removed)
        self._observers[version] = observer
        return observer
