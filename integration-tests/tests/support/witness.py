"""A session that runs on beside a fault, and must not notice it."""

import json

from support.agents import Agent
from support.drivers import Driver
from support.waiting import until

# Workers that it uses.
WORKERS = 2

# Runs calls without end and tells of each.
_SCRIPT = """
    run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1], batch_size=1)

    def task(number):
        time.sleep(0.01)
        return number, os.getpid()

    turn = 0
    while True:
        results = run(delayed(task)(turn + i) for i in range(6))
        say(
            turn=turn,
            right=[number for number, _ in results] == list(range(turn, turn + 6)),
            pids=sorted({pid for _, pid in results}),
        )
        turn += 1
"""


class Witness:
    """Another session of an agent. Use it in a ``with`` block.

    Parameters
    ----------
    agent : Agent
        The agent; the witness keeps two of its workers busy, lightly.
    """

    def __init__(self, agent: Agent) -> None:
        self._driver = Driver(_SCRIPT, agent.address)

    def __enter__(self) -> "Witness":
        self.turn()
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.__exit__()

    def turn(self) -> int:
        """Return the number of its latest call."""
        return int(self._driver.fact("turn"))

    def check(self, before: int) -> None:
        """Check that it went on since a turn, with right results in its first two workers."""
        until(self.turn, lambda turn: turn >= before + 2, what="turns of another session")
        said = [json.loads(line) for line in list(self._driver.lines)]
        assert all(facts["right"] for facts in said), said[-5:]
        pids = {pid for facts in said for pid in facts["pids"]}
        assert len(pids) == WORKERS, f"workers of another session were replaced: {pids}"
