"""What people are told of agents that were lost."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from joblib_clutch.evidence import Attempt
from joblib_clutch.exceptions import (
    AgentDrainingError,
    AgentUnavailableError,
    CallCancelledError,
    ClutchError,
    ClutchWarning,
)
from joblib_clutch.failures import function_name

if TYPE_CHECKING:
    from joblib_clutch.batch import Batch
    from joblib_clutch.session import Session

_logger = logging.getLogger("joblib_clutch")


def warn(text: str) -> None:
    """Warn from a thread where nobody could handle a warning made an error."""
    try:
        warnings.warn(text, ClutchWarning, stacklevel=1)
    except Exception:  # noqa: BLE001 - a warning made an error, or a hook of the user's
        _logger.warning(text)


def tell(lost: Session, batches: int, others: int) -> None:
    """Warn that one of several agents was lost, when it had batches.

    Parameters
    ----------
    lost : Session
        Its session.
    batches : int
        Batches that it had.
    others : int
        Agents that are left.
    """
    count = "1 batch runs" if batches == 1 else f"{batches} batches run"
    where = {0: "once there is another one", 1: "on the other one"}.get(
        others, f"on the {others} others"
    )
    text = f"the agent at {lost.address} on {lost.host} was lost ({lost.how()})"
    if batches == 0:
        _logger.info(text)
    else:
        warn(f"{text}; {count} again {where}")


def away(lost: Session, batches: int) -> None:
    """Log what becomes of a call's batches while the connection to their agent is broken.

    Parameters
    ----------
    lost : Session
        Its session.
    batches : int
        Batches that it has.
    """
    limit = lost.native.silence_seconds
    _logger.warning(
        "the agent at %s has %d batches of a call and gets no more until it is back; after %g s"
        " without it they run elsewhere; silence_limit= sets how long",
        lost.address,
        batches,
        limit,
    )


def worn_out(batch: Batch, lost: Session) -> AgentUnavailableError:
    """Say that each agent was lost that had a batch.

    Parameters
    ----------
    batch : Batch
        The batch.
    lost : Session
        The last of them.

    Returns
    -------
    AgentUnavailableError
        The error.
    """
    return AgentUnavailableError(
        f"the agent was lost each of the {batch.attempts} times that this batch was sent;"
        f" the last time: {lost.lost_error().args[0]}",
        kind="AGENT_UNAVAILABLE",
        fault="AGENT",
        function=function_name(batch.functions, None),
        attempt=batch.attempts,
        earlier_attempts=tuple(
            Attempt("AGENT_UNAVAILABLE", message, None, 0.0) for message in batch.losses
        ),
        advice="see whether a task of this batch ends the agent, its parent process",
        **lost.evidence(),
    )


def none_took_its_place(lost: Session, error: Exception, seconds: float) -> AgentUnavailableError:
    """Say that no agent was found in the place of a lost one.

    Parameters
    ----------
    lost : Session
        The session that was lost last.
    error : Exception
        Why there is no other.
    seconds : float
        How long one was looked for.

    Returns
    -------
    AgentUnavailableError
        The error.
    """
    why = error.args[0] if isinstance(error, ClutchError) else repr(error)
    reason = AgentUnavailableError(
        f"{lost.lost_error().args[0]}; none took its place within {seconds:.1f} s: {why}",
        kind="AGENT_UNAVAILABLE",
        fault="AGENT",
        advice=getattr(error, "advice", ""),
        **lost.evidence(),
    )
    reason.__cause__ = error
    return reason


def all_drain(last: Session) -> AgentDrainingError:
    """Say that all agents were asked to stop.

    Parameters
    ----------
    last : Session
        One of them.

    Returns
    -------
    AgentDrainingError
        The error.
    """
    return AgentDrainingError(
        f"all agents were asked to stop and take nothing new, {last.address} for one",
        kind="AGENT_DRAINING",
        fault="AGENT",
        host=last.host,
        advice="add another agent, or start them again",
    )


def cancelled() -> CallCancelledError:
    """Say that the call was over before its batch went anywhere."""
    return CallCancelledError(
        "the call ended before the batch was sent", kind="CANCELLED", fault="NOBODY"
    )
