"""The exception for a deployment that cannot be simulated, or that Azure would refuse."""


class DeploymentError(Exception):
    """The text names the resource and the problem. It contains "Azure refuses" where Azure would refuse it too."""


def refused(resource: str, code: str, why: str) -> DeploymentError:
    """Azure would refuse it, with this code."""
    return DeploymentError(f"{resource}: Azure refuses it ({code}): {why}")
