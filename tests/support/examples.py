"""How many random examples a property test draws: the profiles of hypothesis.

"fast" is what `make test` runs: few examples, the same each time. "deep" is what `make fuzz` runs: as many as
FUZZ_EXAMPLES says, others each time. HYPOTHESIS_PROFILE names one for any other run.

Neither has a deadline or a check of how fast examples come, for both depend on the machine.
"""

import os

from hypothesis import HealthCheck, settings

FAST_EXAMPLES = 60
DEEP_EXAMPLES = 1000


def load_profile() -> None:
    """Registers both profiles and loads the one that the environment names."""
    examples = os.environ.get("FUZZ_EXAMPLES", "")
    unlimited = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("fast", unlimited, max_examples=FAST_EXAMPLES, derandomize=True)
    settings.register_profile("deep", unlimited, max_examples=int(examples or DEEP_EXAMPLES))
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("deep" if examples else "fast"))


def a_share(divisor: int) -> settings:
    """For a test whose example costs so many times what another one costs."""
    return settings(max_examples=max(1, settings().max_examples // divisor))
