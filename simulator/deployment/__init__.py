"""One deployment of infra/ made real in the simulator: read from its committed snapshots, phase after phase.

| file | |
| --- | --- |
| snapshots.py | the files of a deployment, as the Bicep compiler wrote them |
| expressions.py | what stays an expression in them, and its value |
| known.py | the closed table: what of them is simulated, what is not, and what is an error |
| plan.py | all of it resolved, as values; refuses what Azure refuses |
| storage.py, roles.py, events.py | the parts of a plan: storage account, rights, topics and event subscriptions |
| deployed.py | a plan made real |
| usage.py | what was missing, and what was spare |

Simulated is what the app meets: names, rights, settings, events. Not simulated is what it does not meet, such as disks
and alerts, and Resource Manager's own course of a deployment (operations, retries, what-if).
"""

from simulator.deployment.deployed import PLATFORM, Deployed, deploy
from simulator.deployment.errors import DeploymentError
from simulator.deployment.snapshots import Snapshots
from simulator.deployment.usage import Usage

__all__ = ["PLATFORM", "Deployed", "DeploymentError", "Snapshots", "Usage", "deploy"]
