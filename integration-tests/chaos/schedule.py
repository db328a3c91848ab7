"""When who is killed: drawn once from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# Mean seconds between two kills of a kind: a Poisson process each.
MEAN_SECONDS = {"worker": 0.25, "zygote": 4.0, "agent": 15.0}


@dataclass(frozen=True, order=True)
class Kill:
    """One kill.

    Parameters
    ----------
    at : float
        Seconds since the beginning.
    kind : str
        A key of `MEAN_SECONDS`.
    choice : float
        From 0 to 1: which of those that are alive then.
    """

    at: float
    kind: str
    choice: float


def kills(seed: int, means: dict[str, float] = MEAN_SECONDS) -> Iterator[Kill]:
    """Yield kills in the order of time, without end."""
    dice = {kind: random.Random(f"{seed} {kind}") for kind in means}
    coming = {kind: dice[kind].expovariate(1 / mean) for kind, mean in means.items()}
    while True:
        kind = min(coming, key=coming.__getitem__)
        yield Kill(coming[kind], kind, dice[kind].random())
        coming[kind] += dice[kind].expovariate(1 / means[kind])
