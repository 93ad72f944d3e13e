"""Programs that are measured. Each function is run in a process of its own and prints one line of numbers.

This package imports next to nothing, since what it imports is part of every measurement.
"""

import json
import resource
import sys


def cpu_seconds() -> float:
    """The processor time of this process so far, user and system, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    """The most memory this process held so far, in MB.

    Linux hands ru_maxrss of the parent on through fork and exec, so VmHWM is read where there is one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1_000_000 if sys.platform == "darwin" else 1000
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def tell(**figures: float) -> None:
    """Prints the figures of this process, with its processor time and peak memory up to now unless they are given."""
    print(json.dumps({"cpu": cpu_seconds(), "peak_mb": peak_mb()} | figures), flush=True)
