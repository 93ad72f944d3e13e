"""One deployment of infra/, deployed to the simulator: read from its committed snapshots, phase after phase.

| file | |
| --- | --- |
| snapshots.py | the files of a deployment, as the Bicep compiler wrote them |
| expressions.py | the expressions left in them, and their values |
| known.py | the closed table: which types and properties are simulated, which are not, and which are an error |
| plan.py | the whole deployment, resolved to values; refuses what Azure refuses |
| operations.py, flex.py | what Azure has published: operations of roles, and what Flex Consumption forbids |
| storage.py, roles.py, events.py | the parts of a plan: storage account, rights, topics and event subscriptions |
| deployed.py | a plan, deployed |
| usage.py | permissions and resources that are missing or unused |

Simulated: what the app uses, such as names, rights, settings and events. Not simulated: what it does not use, such as
disks and alerts, and the deployment itself in Resource Manager (operations, retries, what-if).
"""

from simulator.deployment.deployed import PLATFORM, Deployed, EventReceiver, deploy
from simulator.deployment.errors import DeploymentError
from simulator.deployment.snapshots import Snapshots
from simulator.deployment.usage import Usage

__all__ = ["PLATFORM", "Deployed", "DeploymentError", "EventReceiver", "Snapshots", "Usage", "deploy"]
