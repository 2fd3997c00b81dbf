"""Who answers whom: everybody by the bundle that is served, but for a canary's share of the users."""

from __future__ import annotations

from service.schemas import PredictRequest, PredictResponse
from service.versions.deployment import Deployment
from service.versions.split import chosen


class Router:
    """Changes between two requests, never within one: a request ends where it began. `share`: of the users, 0 without a
    canary."""

    def __init__(self, serving: Deployment) -> None:
        self.serving = serving
        self.canary: Deployment | None = None
        self.share = 0.0
        self._tell()

    def of(self, user_id: str | None) -> Deployment:
        """Whose user this is; always the same one's, as long as the canary and its share are the same."""
        canary = self.canary
        return canary if canary is not None and chosen(user_id, canary.version, self.share) else self.serving

    async def answer(self, request: PredictRequest, request_id: str, *, patient: bool = False) -> PredictResponse:
        """As `Pipeline.answer`."""
        return await self.of(request.user_id).answer(request, request_id, patient=patient)

    def promote(self, new: Deployment) -> Deployment:
        """`new` serves from now on, also if it was the canary until now; returns who served before."""
        old, self.serving = self.serving, new
        if new is self.canary:
            self.canary, self.share = None, 0.0
        old.metrics.share(0.0)
        self._tell()
        return old

    def split(self, canary: Deployment, share: float) -> None:
        """`canary` answers `share` (above 0, at most 1) of the users."""
        self.canary, self.share = canary, share
        self._tell()

    def end_canary(self) -> None:
        """Its users go back to the bundle that is served."""
        if self.canary is not None:
            self.canary.metrics.share(0.0)
        self.canary, self.share = None, 0.0
        self._tell()

    def _tell(self) -> None:
        self.serving.metrics.share(1.0 - self.share)
        if self.canary is not None:
            self.canary.metrics.share(self.share)
