"""Token buckets, as Azure counts calls. They are computed from the clock; nothing runs in the background."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulator.behaviour import Rate
from simulator.wire import Json, Refused, ticks


@dataclass
class Bucket:
    """One bucket: full at first, refilled at the end of each period counted from its first use."""

    rate: Rate
    tokens: int
    refilled: datetime

    def refill(self, now: datetime) -> None:
        if self.rate.maximum is None:
            return
        periods = math.floor((now - self.refilled).total_seconds() / self.rate.period_seconds)
        if periods > 0:
            self.tokens = min(self.rate.maximum, self.tokens + periods * self.rate.refill)
            self.refilled += timedelta(seconds=periods * self.rate.period_seconds)

    def has(self, cost: int) -> bool:
        return self.rate.maximum is None or self.tokens >= cost

    def take(self, cost: int) -> None:
        if self.rate.maximum is not None:
            self.tokens -= cost

    def seconds_until(self, cost: int, now: datetime) -> float:
        """Until so many tokens are there."""
        periods = math.ceil(max(0, cost - self.tokens) / max(1, self.rate.refill))
        end = self.refilled + timedelta(seconds=periods * self.rate.period_seconds)
        return max(0.0, (end - now).total_seconds())


class Quotas:
    """All buckets of the simulated Azure, created on first use."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._buckets: dict[tuple[Rate | str, ...], Bucket] = {}

    def bucket(self, rate: Rate, *key: str) -> Bucket:
        """The bucket of this key, refilled up to now. A changed rate starts a new bucket."""
        now = self._now()
        whole: tuple[Rate | str, ...] = (rate, *key)
        if whole not in self._buckets:
            self._buckets[whole] = Bucket(rate, rate.maximum or 0, now)
        found = self._buckets[whole]
        found.refill(now)
        return found

    def take_compute(self, cost: int, *wanted: tuple[str, Rate, str]) -> str:
        """Takes from every named bucket or from none; gives the x-ms-ratelimit-remaining-resource header.

        `wanted`: (name, rate, key), in the order the header shows them.
        """
        found = [(name, self.bucket(rate, name, key)) for name, rate, key in wanted]
        for name, bucket in found:
            if not bucket.has(cost):
                raise self._throttled(name, bucket, cost=cost, remaining=_remaining(found))
        for _, bucket in found:
            bucket.take(cost)
        return _remaining(found)

    def _throttled(self, name: str, bucket: Bucket, *, cost: int, remaining: str) -> Refused:
        """The documented flat body; `details[].message` is JSON in a text."""
        now = self._now()
        wait = math.ceil(bucket.seconds_until(cost, now)) or 1
        group = (
            f'{{"operationGroup":"{name}","startTime":"{ticks(bucket.refilled)}",'
            f'"endTime":"{ticks(now + timedelta(seconds=wait))}","allowedRequestCount":{bucket.rate.maximum},'
            f'"measuredRequestCount":{(bucket.rate.maximum or 0) + cost}}}'
        )
        message = "The server rejected the request because too many requests have been received for this subscription."
        body: Json = {
            "code": "OperationNotAllowed",
            "message": message,
            "details": [{"code": "TooManyRequests", "target": name, "message": group}],
        }
        headers = {"retry-after": str(wait), "x-ms-ratelimit-remaining-resource": remaining}
        return Refused(429, "OperationNotAllowed", message, headers=headers, body=body)


def _remaining(found: list[tuple[str, Bucket]]) -> str:
    return ",".join(f"Microsoft.Compute/{name};{bucket.tokens}" for name, bucket in found)
