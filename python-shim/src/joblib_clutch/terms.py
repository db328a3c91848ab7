"""A call, as its agents are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from joblib_clutch import _native
    from joblib_clutch.access import Agents
    from joblib_clutch.call import CallPlan
    from joblib_clutch.profile import WorkerProfile
    from joblib_clutch.session import Session


class Terms(NamedTuple):
    """A call on several agents.

    Attributes
    ----------
    native : _native.Call
        The call, open on one of them.
    profile : WorkerProfile
        The workers that run it.
    plan : CallPlan
        What it asks for.
    agents : Agents
        Those that may run it, now and later.
    """

    native: _native.Call
    profile: WorkerProfile
    plan: CallPlan
    agents: Agents

    def room(self, session: Session) -> int:
        """Tell how many batches of the call an agent runs at once.

        Parameters
        ----------
        session : Session
            The agent.

        Returns
        -------
        int
            0: it takes no more.
        """
        slots, whole = session.slots, self.plan.settings.whole_cpus
        return max(slots // whole, 1) if slots > 0 else 0

    def takes_long(self, session: Session) -> bool:
        """Tell whether code of the driver may have to get there before the call can.

        Parameters
        ----------
        session : Session
            The agent.

        Returns
        -------
        bool
            False: to open the call there waits for nothing.
        """
        return not (self.profile.shipment.is_local or session.native.shares_memory)

    def open_on(self, session: Session) -> _native.Call:
        """Open the call on one more agent, or once more on the same.

        Parameters
        ----------
        session : Session
            The agent.

        Returns
        -------
        _native.Call
            The call there.
        """
        room = max(self.room(session), 1)
        most = self.plan.max_running if self.plan.settings.whole_cpus == 1 else room
        profile = self.profile._replace(workers=min(self.profile.workers, room))
        return session.join_call(self.native, profile, most)
