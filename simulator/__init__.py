"""Azure on this machine: a simulator that the tests, the demo and people drive. One folder per service.

| file or folder | what it is |
| --- | --- |
| azure.py | `Azure`: the state, the one handler of every request, a driver for tests |
| transport.py, server.py | the two ways in: SDK clients of this process; a TLS port |
| world.py | machines, resource groups and operations, computed from times; the events that are due |
| behaviour.py, faults.py | what a test chooses: durations, quotas, guests, rights; what goes wrong |
| wire.py, tls.py, serving.py | requests, responses and refusals; certificates; how a server ends |
| embedded.py | everything at once, with a deployment of infra/ and a Functions host |
| arm/ | Resource Manager and Compute: routes.py (the route page), pipeline.py, a file per resource type |
| resource_graph/ | Resource Graph: endpoint.py, query.py, tables.py, rows.py; kql/ evaluates the query language |
| event_grid/ | events, event subscriptions, delivery |
| identity/ | Entra ID's tokens, the managed identity's endpoint, credentials |
| storage/ | Azurite, Microsoft's storage emulator |
| functions_host/ | the Functions host |
| monitor/ | rows of Log Analytics, and its queries |
| deployment/ | a deployment of infra/, read from its snapshots; what it lacks and what it does not need |
| demo/ | `make demo` |
| playground/ | `python -m simulator`: a fleet, the app, and a clock that a person moves |
| node/ | Azurite's packages and the official KQL checker |

| route | where |
| --- | --- |
| subscriptions, resource groups, virtual machines and their actions, operations | arm/routes.py |
| servers outside Azure (Arc): read, connect, assess, install | arm/hybrid.py |
| maintenance configurations, assignments | arm/configurations.py, arm/schedules.py |
| GET /subscriptions, descendants of a management group | arm/tenant.py |
| POST /providers/Microsoft.ResourceGraph/resources | resource_graph/endpoint.py |
| GET /msi/token | identity/server.py |
| /runtime/webhooks/eventgrid, /admin/functions/{name} | functions_host/webhook.py |
| /simulator/...: not Azure's, for a person at a terminal | server.py |

Left out: Resource Notifications, deployments, role assignments and locks as resources (they are plain
lists), and nextLink. Each file says what else it leaves out. Numbers and texts name their source, or say that they are
inferred; tests/contract compares answers with recorded traffic and published facts.

How to drive it. In a test, with a clock of its own:

    azure = Azure(clock, seed=1)
    client = ComputeManagementClient(ClockCredential(azure.now), subscription, transport=AzureTransport(azure))
    azure.create_machine(shapes.machine_id("vm-01"), shapes.machine())
    azure.behave("vm-01", Behaviour(support_state="Unsupported"))
    azure.faults.add(Fault("POST", "/assessPatches$", status=409))

With the app: `async with Embedded(speed=60) as embedded`. By hand: `python -m simulator`.

How to extend it. A route: arm/routes.py. A rule that every request must pass: a step of arm/pipeline.py. A quota:
arm/throttling.py. What a guest does: `Behaviour`. A table or column: resource_graph/rows.py. A construct of KQL:
resource_graph/kql/. No service imports `functions`; tests/contract/test_simulator_structure.py has the import rules.
"""
