"""A person's results on their way from the count to the LIS: what a release now would be, and the release."""

import time
from typing import Any

from edge.errors import UserError
from edge.lis.outbox import Entry
from edge.lis.service import LisService
from edge.live import Release
from edge.report import Status, status
from edge.session import Session

_STATE_S = 1.0
"""So old the LIS's state may be that is shown."""


class Releases:
    """Releases results as they were seen; `lis` is None where no way to the LIS is set."""

    def __init__(self, lis: LisService | None) -> None:
        self._lis = lis
        self.renew()

    def renew(self) -> None:
        """Have the LIS asked at the next need: another specimen is counted, or a result was released."""
        self._told: dict[str, Any] = {}
        self._due_s = 0.0

    def state(self, session: Session, *, broken: bool) -> dict[str, Any] | None:
        """Return the LIS's state, at most a second old; None without a way to it.

        With it comes "release_as", the status of a release now; `broken` where the input broke off.
        """
        if self._lis is None:
            return None
        return self._state(session) | {"release_as": self._release_as(session, broken)}

    def answer(self, asked: Release, session: Session, phase: str) -> None:
        """Release the result if it still is as the person saw it who asks; else tell why not.

        Args:
            asked: gets the outbox's entry, or what refuses.
            session: the present count.
            phase: its phase, as `Session.state` has it; it must be none in which the count goes on.
        """
        try:
            asked.answer.set_result(self._released(asked, session, phase))
        except UserError as error:
            asked.answer.set_exception(error)
        self.renew()

    def _released(self, asked: Release, session: Session, phase: str) -> Entry:
        if phase == "counting":
            raise UserError("the count goes on; pause it, then release")
        if asked.specimen != session.specimen:
            raise UserError(f"the count is now that of {session.specimen}; look at it, then release")
        lis, broken = self._way(), phase == "failed"
        self.renew()
        now = session.counts, len(session.doubtful), self._release_as(session, broken)
        if (asked.counts, asked.review, asked.status) != now:
            raise UserError("the count has changed meanwhile; look at it, then release")
        earlier = lis.messages(session.specimen)
        entry = self.release(session, not broken, asked.operator, asked.wbc)
        if entry.id in earlier:
            raise UserError(f"released before, unchanged (message {entry.id}): nothing was sent again")
        return entry

    def release(self, session: Session, complete: bool, operator: str, wbc: float | None) -> Entry:
        """Release the result of a count as it is now; one of too few cells is not `complete`.

        Raises:
            UserError: there is no way to the LIS, nothing was counted, or it cannot be stored.
        """
        lis = self._way()
        complete = complete and session.total >= session.needed
        return lis.release(session.result(complete), operator=operator, wbc=wbc)

    def _way(self) -> LisService:
        if self._lis is None:
            raise UserError("no way to the LIS is set; --serial names its port")
        return self._lis

    def _release_as(self, session: Session, broken: bool) -> Status:
        """Return the status with which a result would leave now."""
        settled = not (broken or session.unsettled)
        return status(settled, was_final=self._state(session)["was_final"])

    def _state(self, session: Session) -> dict[str, Any]:
        if time.monotonic() >= self._due_s:
            self._told, self._due_s = self._way().state(session.specimen), time.monotonic() + _STATE_S
        return self._told
