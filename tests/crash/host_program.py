"""`python -m tests.crash.host_program`: the real app on the simulated Functions host, its time faster by one factor.

The app is unchanged, and so are its times: 15 minutes to adoption, an hour for a claim, 5 minutes for the sweep's
lease, 60 s from begin to POST. What is faster is the clock. The app gets its clock from one function, `connect`, and
this program wraps that function: the app's clock goes `speed` times faster, and so the delay of a message, which the
queue service counts in seconds of this machine, is divided by the same factor. The simulated Azure in the parent goes
by the same clock, and the host's own waits (visibility of a received message, of a failed one, polling) are divided
too. So an operator meets no switch for any of this, and no test changes a constant of the app.

Not faster, because nothing but this machine makes them last: a call's own time-out (40 s), the storage SDK's retries,
functionTimeout. They are only longer than in Azure in relation to the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

import functions.services
from functions.cloud.queue import Message, Poison, WorkQueue
from functions.model.state import OperationKind
from functions.policy.settings import Settings
from functions.services import Services
from simulator.functions_host.process import read_order, run
from tests.crash.clock import FastClock


class FastQueue:
    """The work queues, where a message's delay is given in the app's time."""

    def __init__(self, inner: WorkQueue, clock: FastClock) -> None:
        self._inner = inner
        self._clock = clock

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        # The service counts whole seconds: rounded up, for a message must not come before it is due.
        await self._inner.send(kind, message, math.ceil(self._clock.real_seconds(delay_seconds)))

    async def poison(self) -> list[Poison]:
        return await self._inner.poison()


def use_fast_services(fast: FastClock) -> None:
    """From now on the app's services go by this clock. Before the app is loaded: it takes the function by its name."""
    connect = functions.services.connect

    def connect_fast(settings: Settings, clock: Callable[[], datetime]) -> Services:
        services = connect(settings, fast)
        services.queue = FastQueue(services.queue, fast)
        return services

    functions.services.connect = connect_fast


if __name__ == "__main__":
    order = read_order()
    use_fast_services(FastClock.from_json(dict(order.more["clock"])))
    run(order)
