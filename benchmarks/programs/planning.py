"""One plan over a fleet that is all due, of many images, with as many rows in the ledger."""

from __future__ import annotations

from datetime import timedelta

from benchmarks.programs import cpu_seconds, tell
from functions.decisions.plan import Candidate, Fleet, make_plan
from functions.model.machine import Image, ImageKind, Machine
from functions.model.record import Record
from functions.model.state import Install, OperationKind, Phase, State
from tests.support import GALLERY_IMAGE, NOW, a_machine, a_record, machine_id, settings

PER_IMAGE = 10


def plan(machines: int) -> None:
    """Tells `cpu`: of the plan alone. Each image has ten machines that are due and ten rows that are running."""
    due = [Candidate(_machine(number), Install(State.DUE, "3 patches wait")) for number in range(machines)]
    rows = [_row(number) for number in range(machines)]
    limits = settings(PATCH_MAX_IN_FLIGHT="10000", PATCH_MAX_PER_IMAGE="10000")
    began = cpu_seconds()
    made = make_plan(due, Fleet(rows), limits, now=NOW)
    taken = cpu_seconds() - began
    assert len(made.waits) + len(made.dispatches) >= machines
    tell(cpu=taken)


def _image(number: int) -> str:
    return GALLERY_IMAGE.replace("/web/", f"/image-{number // PER_IMAGE}/")


def _machine(number: int) -> Machine:
    image = Image(ImageKind.GALLERY, _image(number))
    created = NOW - timedelta(days=2, minutes=number % 997)
    return a_machine(id=machine_id(f"vm-{number}"), image=image, created=created, tags={"patch-ring": str(number % 3)})


def _row(number: int) -> Record:
    return a_record(
        machine=machine_id(f"running-{number}"),
        image=_image(number),
        kind=OperationKind.INSTALL,
        phase=Phase.RUNNING,
        started_at=NOW - timedelta(minutes=5),
    )
