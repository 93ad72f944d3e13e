"""The one exception of a deployment that cannot be made real here, or that Azure would refuse."""


class DeploymentError(Exception):
    """What is wrong, with the name of the resource. `Azure refuses` in the text: so would Azure."""


def refused(resource: str, code: str, why: str) -> DeploymentError:
    """Azure would refuse it, with this code."""
    return DeploymentError(f"{resource}: Azure refuses it ({code}): {why}")
