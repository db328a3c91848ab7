"""An agent that does not keep the contract is given up, and every batch ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from clutch_wire.clutch.v1 import failure_pb2, outcome_pb2
from joblib import Parallel, delayed, parallel_config

from joblib_clutch import exceptions as errors

if TYPE_CHECKING:
    from fake_agent import Conversation, FakeAgent


def test_an_outcome_of_a_batch_that_is_not_open_loses_the_agent(agent: FakeAgent) -> None:
    def end_another(conversation: Conversation, batch: wire.SubmitBatch) -> None:
        failure = failure_pb2.Failure(kind=failure_pb2.FAILURE_KIND_INTERNAL)
        ended = outcome_pb2.BatchEnded(batch_id=batch.batch_id + 1000, failure=failure)
        conversation.outgoing.put([wire.AgentFrame(batch_ended=ended)])

    agent.on_batch = end_another
    with (
        parallel_config("clutch", agents=agent.address),
        pytest.raises(errors.AgentUnavailableError, match=r"a batch ended that is not open"),
    ):
        Parallel(n_jobs=2)(delayed(len)("ab") for _ in range(4))
