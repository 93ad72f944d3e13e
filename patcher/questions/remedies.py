"""The command that a person can run next, where one exists for a machine's state."""

from functions.model.machine import Machine
from functions.model.state import State, Step
from functions.model.stop import Stop

_POWER_STARTS = "az vm start --ids {id}"
_COMMANDS = {
    State.POWERED_OFF: _POWER_STARTS,
    State.EXTENSIONS_FORBIDDEN: "az vm update --ids {id} --set osProfile.allowExtensionOperations=true",
    State.UNDETERMINED: "az vm restart --ids {id}",
    State.REBOOT_PENDING: "az vm restart --ids {id}",
    State.PAUSED: "patcher resume --by-setting",  # a pause by a row: see Stop.command
    State.BREAKER_OPEN: "patcher breaker list",
    State.OVERDUE: "az vm get-instance-view --ids {id} --query instanceView.patchStatus",
}
_BY_TAG = {State.OPTED_OUT: "patch-mode", State.ON_HOLD: "patch-hold-until"}


def command(machine: Machine, step: Step, stop: Stop | None) -> str:
    """One command to copy; "" where the remedy is not one command. `stop`: the one that covers the machine."""
    if stop and stop.text in step.reason:
        return stop.command
    of_azure = not machine.id.is_arc  # `az vm` knows no other
    if of_azure and step.state is State.BUILDING and machine.provisioning_state.lower() == "failed":
        return f"az vm reapply --ids {machine.id}"
    if name := _BY_TAG.get(step.state):
        where = machine.id if name in machine.tags else machine.id.group_id
        value = machine.tags.get(name) or (machine.resource_group.tags.get(name, "") if machine.resource_group else "")
        return f"az tag update --operation Delete --resource-id {where} --tags {name}={value}"
    text = _COMMANDS.get(step.state, "")
    return text.format(id=machine.id) if of_azure or not text.startswith("az vm ") else ""
