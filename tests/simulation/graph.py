"""Resource Graph for the simulation: answers the app's own queries from Python; the simulator evaluates KQL.

The evaluator costs many times the CPU of everything else in a seed. A query is recognised by its own template; what it
asks is written here again as plain Python, over the same rows. tests/simulation/test_graph.py holds both to the
same answers over random worlds. An unknown query goes to the evaluator.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from functions.cloud import queries
from simulator.resource_graph.graph import Graph
from simulator.resource_graph.query import MAX_PAGE_ROWS, GraphQuery, page
from simulator.resource_graph.rows import machine_row
from simulator.resource_graph.tables import Rights
from simulator.wire import Json, Request, Response
from simulator.world import Machine

# Resource Graph gives one page of them.
SUMMARIES = ("arc_counts", "arc_servers", "fleet_counts", "image_sizes", "subscriptions_seen")

_HOLE = re.compile(r"\{(\w+)\}")
_LISTED = re.compile(r"'([^']*)'")

_PROVIDERS = ("microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines")
_WAITING = [f"{provider}/patchassessmentresults/softwarepatches" for provider in _PROVIDERS]

Fill = dict[str, str]


def _pattern(name: str) -> re.Pattern[str]:
    """A filled query back to what filled it. A placeholder that stands twice is the same twice."""
    parts, last, seen = [], 0, set()
    text = queries.template(name)
    for hole in _HOLE.finditer(text):
        parts.append(re.escape(text[last : hole.start()]))
        parts.append(f"(?P={hole[1]})" if hole[1] in seen else f"(?P<{hole[1]}>(?:'[^']*'|[^)'])*?)")
        seen.add(hole[1])
        last = hole.end()
    return re.compile("".join(parts) + re.escape(text[last:]), re.DOTALL)


@dataclass
class PredicateGraph(Graph):
    """The same answers from Python; in pages of `page_rows`, as Azure too gives fewer rows than were asked for."""

    page_rows: int = MAX_PAGE_ROWS
    shown: dict[Machine, tuple[tuple[Any, ...], Json]] = field(default_factory=dict)  # what it depends on, and the row

    def answer(self, request: Request, rights: Rights) -> Response:
        self.queries += 1
        asked = GraphQuery.read(request.json())
        columns, rows = self.evaluate(asked, self.scope(asked, rights), rights)
        if columns[0][0] == "id":
            asked = replace(asked, top=min(asked.top, self.page_rows))
        return Response(200, page(asked, columns, rows, shuffler=self.shuffler(asked)))

    def evaluate(self, query: GraphQuery, scope: set[str], rights: Rights) -> tuple[list[tuple[str, str]], list[Json]]:
        for name, (start, pattern, answer) in ANSWERS.items():
            if query.text.startswith(start) and (match := pattern.fullmatch(query.text)):
                rows = answer(_Seen(self, scope, rights), match.groupdict())
                columns = [(each, "string") for each in (rows[0] if rows else {"id": ""})]
                return columns if name not in SUMMARIES else [("machines", "long")], rows
        return super().evaluate(query, scope, rights)


class _Seen:
    """What the caller may read, at the moment that answers show."""

    def __init__(self, graph: PredicateGraph, scope: set[str], rights: Rights) -> None:
        self.when = graph.as_of
        self.tables = graph.tables(scope, rights)
        self._graph = graph

    def rows(self, table: str) -> Iterable[Json]:
        return self.tables[table]

    def machines(self) -> list[Json]:
        """Each machine with its assessment, as the queries show both."""
        return [self._shown(each) for each in self.tables.machines()]

    def _shown(self, machine: Machine) -> Json:
        """Built once per state of the machine: most answers show most machines as the one before did."""
        when, assessed = self.when, self.tables.assessment_of(machine)
        state = (
            machine.body.at(when),
            machine.power_at(when),
            machine.provisioning_at(when),
            assessed,
            assessed and assessed.runs_at(when),
            assessed and assessed.ends,
        )
        known = self._graph.shown.get(machine)
        if known is None or known[0] != state:
            row = self._graph.assessment_rows.of(machine, assessed, when)[0]["properties"] if assessed else None
            known = self._graph.shown[machine] = (state, _machine(machine_row(self._graph.world, machine, when), row))
        return known[1]


def _machine(row: Json, assessment: Json | None) -> Json:
    properties = row["properties"]
    storage, profile = properties.get("storageProfile") or {}, properties.get("osProfile")
    image, disk = storage.get("imageReference"), storage.get("osDisk") or {}
    seen = assessment or {}
    readiness = (seen.get("configurationStatus") or {}).get("vmGuestPatchReadiness") or {}
    return {
        "id": row["id"],
        "location": row["location"],
        "tags": row["tags"],
        "managedBy": row["managedBy"],
        "plan": row["plan"],
        "image": image,
        "is_marketplace": _marketplace(image or {}),
        "vm_id": properties.get("vmId") or "",
        "created": properties.get("timeCreated"),
        "provisioning_state": properties.get("provisioningState") or "",
        "power_code": properties["extended"]["instanceView"]["powerState"]["code"],
        "os_type": disk.get("osType") or "",
        "create_option": disk.get("createOption") or "",
        "scale_set": (properties.get("virtualMachineScaleSet") or {}).get("id") or "",
        "availability_set": str((properties.get("availabilitySet") or {}).get("id") or "").lower(),
        "has_os_profile": profile is not None,
        "allow_extensions": (profile or {}).get("allowExtensionOperations"),
        "windows": (profile or {}).get("windowsConfiguration"),
        "linux": (profile or {}).get("linuxConfiguration"),
        "assessment_id": seen.get("assessmentActivityId") or "",
        "assessment_status": seen.get("status") or "",
        "assessment_started": seen.get("startDateTime"),
        "assessment_modified": seen.get("lastModifiedDateTime"),
        "support_state": readiness.get("detectedVMGuestPatchSupportState") or "",
        "reboot_pending": seen.get("rebootPending"),
        "counts": seen.get("availablePatchCountByClassification"),
    }


Answer = Callable[[_Seen, Fill], list[Json]]
Listing = Callable[[_Seen, Callable[[Json], bool]], list[Json]]

_ARC_PROPERTIES = (
    "vmId",
    "provisioningState",
    "status",
    "osType",
    "osName",
    "osSku",
    "agentVersion",
    "parentClusterResourceId",
)


def _servers(seen: _Seen, keep: Callable[[Json], bool]) -> list[Json]:
    """The Arc-enabled servers that `keep` says, each with its assessment. They are few: nothing is kept."""
    kind = "microsoft.hybridcompute/machines"
    assessed = {
        row["id"].lower().split("/patchassessmentresults/")[0]: row["properties"]
        for row in seen.rows("patchassessmentresources")
        if row["type"] == f"{kind}/patchassessmentresults"
    }
    found = (_server(row, assessed.get(row["id"].lower())) for row in seen.rows("resources") if row["type"] == kind)
    return _ordered(row for row in found if row["properties"]["provisioningState"] != "Deleting" and keep(row))


def _server(row: Json, assessment: Json | None) -> Json:
    properties, found = row["properties"], assessment or {}
    readiness = (found.get("configurationStatus") or {}).get("vmGuestPatchReadiness") or {}
    return {
        "id": row["id"],
        "kind": row["kind"],
        "location": row["location"],
        "tags": row["tags"],
        "vm_id": properties.get("vmId") or "",
        "properties": {name: properties.get(name) for name in _ARC_PROPERTIES},
        "assessment_id": found.get("assessmentActivityId") or "",
        "assessment_status": found.get("status") or "",
        "assessment_started": found.get("startDateTime"),
        "support_state": readiness.get("detectedVMGuestPatchSupportState") or "",
        "reboot_pending": found.get("rebootPending"),
        "counts": found.get("availablePatchCountByClassification"),
    }


def _marketplace(image: Json) -> bool:
    return all(image.get(name) for name in ("publisher", "offer", "sku"))


def _machines(seen: _Seen, keep: Callable[[Json], bool] = lambda row: True) -> list[Json]:
    """Those that `keep` says, without those that are being deleted."""
    return _ordered(row for row in seen.machines() if row["provisioning_state"] != "Deleting" and keep(row))


def _ordered(rows: Iterable[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: str(row["id"]))


def _census(listed: Listing) -> Answer:
    def answer(seen: _Seen, fill: Fill) -> list[Json]:
        shares = _list(fill["shares"])
        return listed(seen, lambda row: f"{row['vm_id'].lower()}00"[:2] in shares)

    return answer


def _named(listed: Listing) -> Answer:
    def answer(seen: _Seen, fill: Fill) -> list[Json]:
        ids = _list(fill["ids"])
        return listed(seen, lambda row: row["id"].lower() in ids)

    return answer


def _arc_servers(seen: _Seen, fill: Fill) -> list[Json]:
    kind = "microsoft.hybridcompute/machines"
    found = [str(row["properties"]["status"]).lower() for row in seen.rows("resources") if row["type"] == kind]
    return [{"servers": len(found), "connected": found.count("connected")}]


def _arc_counts(seen: _Seen, fill: Fill) -> list[Json]:
    counts = Counter(
        (
            f"arc/{(row['properties']['osType'] or row['properties']['osName'] or 'unknown').lower()}",
            row["support_state"] or "absent",
        )
        for row in _servers(seen, lambda row: True)
    )
    largest = sorted(counts, key=lambda key: (-counts[key], key))
    return [{"state_name": key[1], "image_name": key[0], "machines": counts[key]} for key in largest]


_CLASSES = {
    "critical": "critical",
    "security": "security",
    "updateRollup": "update_rollup",
    "featurePack": "feature_pack",
    "servicePack": "service_pack",
    "definition": "definition",
    "tools": "tools",
    "updates": "updates",
    "other": "other",
}


def _arc_due(seen: _Seen, fill: Fill) -> list[Json]:
    before, next_before, unsupported = (
        _time(fill[name]) for name in ("assessed_before", "next_slot_before", "unsupported_before")
    )
    flags = {name: value == "true" for name, value in fill.items()}
    classes = {name.lower() for name, flag in _CLASSES.items() if flags["any_class"] or flags[flag]}

    def due(row: Json) -> bool:
        if str(row["properties"]["status"]).lower() != "connected":
            return False
        state, status = row["support_state"].lower(), row["assessment_status"].lower()
        answered = not state and status in ("succeeded", "completedwithwarnings")
        slot = next((int(letter) for letter in row["vm_id"] if letter in "0123456789"), 0)
        limit = unsupported if state == "unsupported" else before + slot * (next_before - before)
        started = row["assessment_started"]
        if started is None or _time(started) <= limit or status == "failed":
            return True
        if not (answered or state in ("supported", "unsupported")):
            return True
        wanted = any(count and name.lower() in classes for name, count in (row["counts"] or {}).items())
        return flags["installs"] and flags["window_open"] and wanted and state != "unsupported"

    return _servers(seen, due)


def _due(seen: _Seen, fill: Fill) -> list[Json]:
    times = ("created_after", "assessed_before", "next_slot_before", "unsupported_before", "young_after")
    after, before, next_before, unsupported, young = (_time(fill[name]) for name in times)
    flags = {name: value == "true" for name, value in fill.items()}
    wanted_classes = [name for name, flag in _CLASSES.items() if flags["any_class"] or flags[flag]]

    def due(row: Json) -> bool:
        if row["is_marketplace"] and not flags["all_images"]:
            return False
        state, status = row["support_state"].lower(), row["assessment_status"].lower()
        answered = row["is_marketplace"] and not state and status in ("succeeded", "completedwithwarnings")
        counts = {name.lower(): count for name, count in (row["counts"] or {}).items()}
        wanted = sum(counts.get(name.lower()) or 0 for name in wanted_classes)
        started = row["assessment_started"]
        slot = next((int(letter) for letter in row["vm_id"] if letter in "0123456789"), 0)
        limit = unsupported if state == "unsupported" else before + slot * (next_before - before)
        if (
            started is None
            or _time(started) <= limit
            or (state and state not in ("supported", "unsupported"))
            or status == "failed"
        ):
            return True
        if not state and not answered:
            return True
        allowed = flags["window_open"] or _time(row["created"]) >= young
        return flags["installs"] and wanted > 0 and (state == "supported" or answered) and allowed

    def is_considered(row: Json) -> bool:
        return row["power_code"] == "PowerState/running" and (flags["any_age"] or _time(row["created"]) >= after)

    return _machines(seen, lambda row: is_considered(row) and due(row))


def _stopped(seen: _Seen, fill: Fill) -> list[Json]:
    flags, after = {name: value == "true" for name, value in fill.items()}, _time(fill["created_after"])

    def listed(row: Json) -> bool:
        old = not flags["any_age"] and _time(row["created"]) < after
        in_scope = not old and (flags["all_images"] or not row["is_marketplace"])
        off = row["power_code"] == "PowerState/deallocated"
        return off and in_scope and not row["scale_set"]

    return _machines(seen, listed)


def _fleet(seen: _Seen, fill: Fill) -> list[Json]:
    counts: dict[tuple[str, str], int] = {}
    for row in seen.machines():
        image = row["image"] or {}
        found = [image.get(name) for name in ("id", "sharedGalleryImageId", "communityGalleryImageId")]
        name = "marketplace" if row["is_marketplace"] else next((each.lower() for each in found if each), "none")
        key = (name, row["support_state"] or "absent")
        counts[key] = counts.get(key, 0) + 1
    largest = sorted(sorted(counts), key=lambda key: -counts[key])
    return [{"state_name": key[1], "image_name": key[0], "machines": counts[key]} for key in largest[:1000]]


def _image_sizes(seen: _Seen, fill: Fill) -> list[Json]:
    flags, after = {name: value == "true" for name, value in fill.items()}, _time(fill["created_after"])
    counts: dict[tuple[str, str], int] = {}
    for row in seen.machines():
        image, created = row["image"] or {}, row["created"]
        if (row["is_marketplace"] and not flags["all_images"]) or not (flags["any_age"] or _time(created) >= after):
            continue
        text = "" if row["image"] is None else json.dumps(image, separators=(",", ":"), ensure_ascii=False)
        by_day = not image.get("exactVersion") and (row["is_marketplace"] or "galleries/" in text.lower())
        key = text, f"{created[:10]}T00:00:00.0000000Z" if by_day else ""
        counts[key] = counts.get(key, 0) + 1
    for row in _servers(seen, lambda row: flags["arc"]):
        properties = row["properties"]
        image = {"arc": properties["osType"] or properties["osName"] or "", "sku": properties["osSku"] or ""}
        key = json.dumps(image, separators=(",", ":"), ensure_ascii=False), ""
        counts[key] = counts.get(key, 0) + 1
    largest = sorted(counts, key=lambda key: (-counts[key], key))[:1000]
    return [{"reference": key[0], "created": key[1] or None, "machines": counts[key]} for key in largest]


def _tag_group(row: Json) -> str:
    return next((str(v).lower() for k, v in (row["tags"] or {}).items() if k.lower() == "patch-group"), "")


def _members(seen: _Seen, fill: Fill) -> list[Json]:
    names, groups = _list(fill["names"]), _list(fill["group_ids"])
    rows = []
    for row in seen.machines():
        own, group = _tag_group(row), row["id"].lower().split("/providers/")[0]
        if own in names or group in groups:
            rows.append({"id": row["id"], "own_group": own, "group_id": group, "power_code": row["power_code"]})
    for row in _servers(seen, lambda row: fill["arc"] == "true"):
        own, group = _tag_group(row), row["id"].lower().split("/providers/")[0]
        code = "PowerState/running" if str(row["properties"]["status"]).lower() == "connected" else ""
        if own in names or group in groups:
            rows.append({"id": row["id"], "own_group": own, "group_id": group, "power_code": code})
    return _ordered(rows)


def _groups(seen: _Seen) -> Iterable[Json]:
    kind = "microsoft.resources/subscriptions/resourcegroups"
    return (row for row in seen.rows("resourcecontainers") if row["type"] == kind)


def _groups_named(seen: _Seen, fill: Fill) -> list[Json]:
    ids = _list(fill["ids"])
    shown = ("id", "tags", "managedBy")
    return _ordered({name: row[name] for name in shown} for row in _groups(seen) if row["id"].lower() in ids)


def _scale_sets_named(seen: _Seen, fill: Fill) -> list[Json]:
    ids, names = _list(fill["ids"]), ("orchestrationMode", "automaticRepairsPolicy", "upgradePolicy")
    return _ordered(
        {"id": row["id"], "properties": {name: row["properties"].get(name) for name in names}}
        for row in seen.rows("resources")
        if row["type"].lower() == "microsoft.compute/virtualmachinescalesets" and row["id"].lower() in ids
    )


def _subscriptions_seen(seen: _Seen, fill: Fill) -> list[Json]:
    asked = _list(fill["subscriptions"])
    found = Counter(row["id"].lower().split("/")[2] for row in _groups(seen))
    return [{"subscription": each, "groups": found[each]} for each in sorted(found) if each in asked]


def _schedules_of(seen: _Seen, fill: Fill) -> list[Json]:
    ids = _list(fill["ids"])
    found = []
    for row in seen.rows("maintenanceresources"):
        owner = row["id"].lower().split("/providers/microsoft.maintenance/")[0]
        resource = row["properties"].get("resourceId", "").lower()
        if owner in ids or resource in ids:
            found.append(
                {"id": row["id"], "owner": owner, "resource": resource} | {"filter": row["properties"].get("filter")}
            )
    return _ordered(found)


def _schedule_runs_of(seen: _Seen, fill: Fill) -> list[Json]:
    found = _installations(seen, fill)
    return _ordered(shown for shown, properties in found if properties["maintenanceRunId"])


def _groups_tagged(seen: _Seen, fill: Fill) -> list[Json]:
    names = _list(fill["names"])
    found = ({"id": row["id"], "patch_group": _tag_group(row)} for row in _groups(seen))
    return _ordered(row for row in found if row["patch_group"] in names)


def _children(rows: Iterable[Json], parent: str, fill: Fill) -> Iterator[tuple[Json, Json]]:
    """Of the machines that are asked for: the id of each row with its machine, and the row's properties."""
    ids = _list(fill["ids"])
    for row in rows:
        machine = row["id"].lower().split(f"/{parent}/")[0]
        if machine in ids:
            yield {"id": row["id"], "machine": machine}, row["properties"]


def _installations(seen: _Seen, fill: Fill) -> Iterator[tuple[Json, Json]]:
    kinds = [f"{provider}/patchinstallationresults" for provider in _PROVIDERS]
    rows = (row for row in seen.rows("patchinstallationresources") if row["type"] in kinds)
    return _children(rows, "patchinstallationresults", fill)


def _waiting(seen: _Seen, fill: Fill) -> Iterator[tuple[Json, Json]]:
    rows = (row for row in seen.rows("patchassessmentresources") if row["type"] in _WAITING)
    return _children(rows, "patchassessmentresults", fill)


_INSTALLATION = {"operation_id": "installationActivityId", "status": "status", "started": "startDateTime"}


def _installations_of(seen: _Seen, fill: Fill) -> list[Json]:
    return _ordered(
        shown | {name: properties[key] for name, key in _INSTALLATION.items()}
        for shown, properties in _installations(seen, fill)
    )


def _last_installations(seen: _Seen, fill: Fill) -> list[Json]:
    return _ordered(
        shown | {"at": properties["startDateTime"]}
        for shown, properties in _installations(seen, fill)
        if properties["status"].lower() in ("succeeded", "completedwithwarnings")
    )


def _oldest_patches(seen: _Seen, fill: Fill) -> list[Json]:
    rows = []
    for shown, properties in _waiting(seen, fill):
        classes = {each.lower() for each in properties["classifications"][:2]}
        if properties["publishedDateTime"] is not None and classes & {"critical", "security"}:
            rows.append(shown | {"critical": "critical" in classes, "at": properties["publishedDateTime"]})
    return _ordered(rows)


_TEXTS = {"name": "patchName", "kb": "kbId", "version": "version"}


def _patches_of(seen: _Seen, fill: Fill) -> list[Json]:
    return _ordered(
        shown
        | {name: properties.get(key) or "" for name, key in _TEXTS.items()}
        | {"classes": properties["classifications"]}
        for shown, properties in _waiting(seen, fill)
    )


def _list(text: str) -> set[str]:
    return {each.lower() for each in _LISTED.findall(text)}


_times: dict[str, datetime] = {}


def _time(text: Any) -> datetime:
    """Azure writes seven fraction digits; Python 3.11 reads them, cutting the last."""
    if text not in _times:
        if len(_times) > 50_000:
            _times.clear()
        _times[text] = datetime.fromisoformat(text)
    return _times[text]


ANSWERS: dict[str, tuple[str, re.Pattern[str], Answer]] = {
    name: (queries.template(name).split("{")[0], _pattern(name), answer)
    for name, answer in (
        ("due_machines", _due),
        ("named_machines", _named(_machines)),
        ("arc_due", _arc_due),
        ("arc_named", _named(_servers)),
        ("arc_census", _census(_servers)),
        ("stopped_machines", _stopped),
        ("arc_servers", _arc_servers),
        ("arc_counts", _arc_counts),
        ("groups_named", _groups_named),
        ("scale_sets_named", _scale_sets_named),
        ("subscriptions_seen", _subscriptions_seen),
        ("schedules_of", _schedules_of),
        ("schedule_runs_of", _schedule_runs_of),
        ("fleet_counts", _fleet),
        ("image_sizes", _image_sizes),
        ("installations_of", _installations_of),
        ("groups_tagged", _groups_tagged),
        ("group_members", _members),
        ("census", _census(_machines)),
        ("last_installations", _last_installations),
        ("oldest_patches", _oldest_patches),
        ("patches_of", _patches_of),
    )
}
