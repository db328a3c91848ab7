"""A cable in user space, which delays, loses and doubles what goes through it.

Some kernels have no netem. This program makes two TAP devices in its own namespace and
carries each frame from one to the other. It prints one line when the devices are there.
Then it reads lines of JSON from standard input: a line with settings changes them, and
each is answered with a line of counts. It ends with its standard input.

It carries some 20,000 frames a second, so it is for small messages; use `Link.bandwidth`
without it where many bytes go.
"""

import contextlib
import dataclasses
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME_BYTES = 65536
# As much as a long fat link may hold; what comes on top is dropped, as a router would.
_MOST_WAITING = 10_000
_FRAMES_AT_ONCE = 64


@dataclasses.dataclass
class Settings:
    """What is done to frames, in each direction; see `Cable.set`."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: bool = False


@dataclasses.dataclass
class Counts:
    """What was done to frames so far, in both directions."""

    carried: int = 0
    lost: int = 0
    duplicated: int = 0
    overflowed: int = 0


def make_tap(name: str) -> int:
    """Make a TAP device that lasts as long as its descriptor; return that."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(
        descriptor, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TAP | _IFF_NO_PI)
    )
    return descriptor


class Relay:
    """Frames on their way between two devices."""

    def __init__(self, first: int, second: int) -> None:
        self._others = {first: second, second: first}
        self.settings = Settings()
        self.counts = Counts()
        self._random = random.Random()
        # When it is due, in order of arrival among equals, to whom, the frame.
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._arrived = 0
        self._last_due = dict.fromkeys(self._others, 0.0)

    def seconds_to_wait(self) -> float | None:
        """Return how long nothing is due; None: for ever."""
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def take(self, source: int) -> None:
        """Take what a device has sent."""
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            for _ in range(_FRAMES_AT_ONCE):
                self._accept(self._others[source], os.read(source, _FRAME_BYTES), now)

    def deliver(self) -> None:
        """Give to the devices what is due."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._waiting)
            # A device that is down, or whose queue is full, loses it.
            with contextlib.suppress(OSError):
                os.write(target, frame)
                self.counts.carried += 1

    def _accept(self, target: int, frame: bytes, now: float) -> None:
        if self._random.random() < self.settings.loss:
            self.counts.lost += 1
            return
        self._put(target, frame, now)
        if self._random.random() < self.settings.duplicate:
            self.counts.duplicated += 1
            self._put(target, frame, now)

    def _put(self, target: int, frame: bytes, now: float) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self.counts.overflowed += 1
            return
        jitter = self._random.uniform(-1, 1) * self.settings.jitter
        due = now + max(0.0, self.settings.delay + jitter)
        if not self.settings.reorder:
            # Jitter alone does not change the order on a wire.
            due = max(due, self._last_due[target])
            self._last_due[target] = due
        self._arrived += 1
        heapq.heappush(self._waiting, (due, self._arrived, target, frame))


def serve(first_name: str, second_name: str) -> None:
    """Carry frames until standard input ends."""
    taps = [make_tap(first_name), make_tap(second_name)]
    relay = Relay(*taps)
    print("ready", flush=True)
    orders = sys.stdin.buffer.raw
    poll = select.poll()
    for descriptor in [*taps, orders.fileno()]:
        poll.register(descriptor, select.POLLIN)
    while True:
        wait = relay.seconds_to_wait()
        # Rounded up: a wait of nothing would be spinning.
        for descriptor, _ in poll.poll(None if wait is None else int(wait * 1000 + 0.999)):
            if descriptor in taps:
                relay.take(descriptor)
            elif not (order := orders.readline()):
                return
            else:
                for name, value in json.loads(order).items():
                    setattr(relay.settings, name, value)
                print(json.dumps(dataclasses.asdict(relay.counts)), flush=True)
        relay.deliver()


if __name__ == "__main__":
    serve(*sys.argv[1:])
