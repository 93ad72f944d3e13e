"""Builds workbook.json and alerts.json from the queries beside it: `python infra/results/build.py`.

Each query is a file of its own (panels/, alerts/), so that it can be read, checked and run alone. This file holds the
order in which people see the panels, and the meaning of each alert. The two JSON files are committed, because Bicep
loads them; a test compares them with this file's output. They contain no id of a subscription or resource: Bicep
replaces __WORKSPACE_ID__ by the workspace, and __DOCUMENTS__ by the address of docs/, which may be empty.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
JSON = dict[str, Any]
WORKSPACE = "__WORKSPACE_ID__"
DOCUMENTS = "__DOCUMENTS__"
TWO_DAYS_MS = 2 * 24 * 3_600_000  # contains the newest census line of each machine, whatever time range is selected


# ---- alerts


@dataclass(frozen=True)
class Alert:
    """One rule. Its query returns one row per finding; `meaning` says what it is and what to do."""

    name: str
    title: str
    meaning: str
    severity: int  # 0 critical, 1 error, 2 warning, 3 informational
    frequency: str
    window: str
    each: str = ""  # a rule fires for each value of this column by itself, once until the condition is over

    def json(self) -> JSON:
        return {
            "name": self.name,
            "displayName": f"Image Patcher: {self.title}",
            "description": self.meaning,
            "severity": self.severity,
            "frequency": self.frequency,
            "window": self.window,
            "query": self._whole_query(),
            "threshold": 0,
            "dimensions": [self.each] if self.each else [],
        }

    def _whole_query(self) -> str:
        """With the text of the function PatchEvents, so that a rule can be created before Azure knows the function."""
        query = text_of("alerts", self.name)
        name, _, rest = query.partition("\n")
        return f"{_journal()}\n{rest}" if name == "PatchEvents" else query


def _journal() -> str:
    lines = (HERE / "PatchEvents.kql").read_text(encoding="utf-8").strip().splitlines()
    return "\n".join(line for line in lines if not line.startswith("//"))


ALERTS = (
    Alert(
        "app-without-functions",
        "the app has no functions, or its host ends itself",
        "The Python code did not load, or the host does not reach its queues or its identity and ends itself again and "
        "again. The app handles no event, message or timer. Read the exception in AppExceptions, then "
        "docs/troubleshoot.md. Event Grid redelivers events for a day.",
        1, "PT5M", "PT15M", "category",
    ),
    Alert(
        "settings-refused",
        "app settings are refused",
        "A setting is wrong, and the app calls nothing until it is corrected. The alert names the setting and the "
        "allowed values (docs/settings.md).",
        1, "PT15M", "PT30M", "setting",
    ),
    Alert(
        "sweep-not-running",
        "no sweep has finished for an hour",
        "Nothing is dispatched or tracked. With lines above 0 the app runs: check for settings.refused, sweep.failed "
        "and step.failed. With 0 it is silent: it is stopped, has no code yet, or its host does not start "
        "(docs/troubleshoot.md). A RECONCILE_SCHEDULE of more than an hour needs a longer window in this rule.",
        1, "PT15M", "PT1H",
    ),
    Alert(
        "breaker-open",
        "installations of an image are stopped",
        "Too many machines of an image failed, and its other machines wait until a person closes this opening. Check "
        "what failed, then follow the remedy (docs/stop.md). One alert per opening; it lasts while machines "
        "wait.",
        1, "PT15M", "PT15M", "because",
    ),
    Alert(
        "installations-failed",
        "installations failed",
        "One alert per image: how many installations failed, on how many machines, and the newest reason. The app "
        "holds the machines and retries them; the workbook's tab Attention shows the remedy of each.",
        2, "PT1H", "PT1H", "image",
    ),
    Alert(
        "poisoned-messages",
        "messages cannot be processed",
        "A message failed five times (its machine is held), or it is in a poison queue and no function can read it "
        "(poison.found). Read step.failed for the cause; inspect the queue's messages, then delete them: the sweep "
        "finds their machines again.",
        2, "PT30M", "PT30M",
    ),
    Alert(
        "machines-overdue",
        "an operation does not end",
        "An assessment or installation has not ended an hour after its own limit. Check the VM agent; restart the "
        "machine if the operation stays open. The app starts nothing else on the machine meanwhile.",
        2, "PT1H", "PT1H", "machine",
    ),
    Alert(
        "put-back-failed",
        "a machine that the app started still runs",
        "The app started a stopped machine to patch it, and asked Azure to deallocate it twice or more in an hour, "
        "without effect. It goes on every 15 minutes; Azure bills the compute meanwhile. The problem says what Azure "
        "answers. Deallocate the machine by hand.",
        2, "PT30M", "PT1H", "machine",
    ),
    Alert(
        "sweep-failed",
        "a stage of the sweep keeps failing",
        "Three sweeps in an hour got no answer for a stage, so the app decided nothing that depends on it. A right is "
        "missing or a service is down. The problem says which.",
        2, "PT30M", "PT1H", "stage",
    ),
    Alert(
        "failures-grouped",
        "machines share a failure",
        "Three or more machines of one image, operating system or agent version are held for the same reason. Check "
        "what they have in common, not each machine. The first sweep of a day (UTC) writes these lines.",
        3, "PT6H", "PT6H",
    ),
    Alert(
        "journal-sampled",
        "journal lines are missing",
        "Application Insights dropped lines of the journal, so every number in the workbook is too low. host.json must "
        "exclude Trace from sampling, as the release's own host.json does.",
        2, "PT1H", "PT1H",
    ),
    Alert(
        "paused-long",
        "the app has been paused for more than four hours",
        "A person paused the app, by the row or by PATCH_PAUSE, and it starts nothing. If the cause is gone, resume "
        "it (docs/stop.md). The line app.paused says who paused it, as far as that is known.",
        2, "PT1H", "PT1H",
    ),
    Alert(
        "compliance-late",
        "too many machines are late",
        "More machines than the parameter latePercent allows (10 percent by default) miss a patch for longer than "
        "PATCH_SLA_DAYS. The workbook's tab Fleet shows on which images and with which owners; the lines "
        "settings.advised and opening.forecast say which settings keep them.",
        2, "PT6H", "P1D",
    ),
    Alert(
        "rollout-stuck",
        "a rollout does not move",
        "The next stage of a rollout let two openings of its window pass that it could have used. Reason and remedy "
        "say what keeps it. One alert per image and boundary; the app reports it once a day while it lasts.",
        2, "PT1H", "P1D", "rollout",
    ),
    Alert(
        "undetermined-growing",
        "more machines are undetermined or without an agent",
        "At least three machines more than the day before, and a tenth more, have state undetermined or "
        "agent-not-ready: nothing is installed on them. Check what changed: an image, an extension, a network rule "
        "(docs/states.md).",
        3, "PT6H", "P2D",
    ),
    Alert(
        "sweep-throttled",
        "no sweep was complete for a day, for lack of quota",
        "Every sweep of a day met a used-up quota (quota.exhausted), so some machines were not checked. Find who "
        "else calls Resource Graph or Resource Manager in these subscriptions, or let the app sweep less often.",
        2, "PT1H", "P1D",
    ),
)  # fmt: skip


# ---- the workbook


@dataclass(frozen=True)
class Panel:
    """One query of the workbook, and how it is shown."""

    name: str
    title: str
    empty: str  # shown when there are no rows
    show: str = "table"
    width: int = 100
    census: bool = False  # reads the newest census line of each machine, whatever the time range is
    good: bool = False  # no rows mean that all is well
    exports: str = ""  # the parameter that receives the `machine` of the clicked row
    needs: str = ""  # the panel is shown only when this parameter has a value
    documents: str = ""  # the page of docs/ that each row links to, as an expression of KQL
    formats: Mapping[str, JSON] = field(default_factory=dict)
    chart: Mapping[str, Any] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """Its file, and the column of links where there are documents to link to."""
        text = text_of("panels", self.name)
        if not self.documents:
            return text
        return f"{text}\n| extend documents = iff(isempty('{DOCUMENTS}'), '', strcat('{DOCUMENTS}', {self.documents}))"

    def item(self) -> JSON:
        content: JSON = {
            "version": "KqlItem/1.0",
            "query": self.query,
            "size": 4 if self.show == "tiles" else 0,
            "title": self.title,
            "noDataMessage": self.empty,
            "queryType": 0,
            "resourceType": "microsoft.operationalinsights/workspaces",
            "crossComponentResources": [WORKSPACE],
            "visualization": self.show,
        }
        content |= {"noDataMessageStyle": 3} if self.good else {}
        content |= {"timeContext": {"durationMs": TWO_DAYS_MS}} if self.census else {}
        content |= {} if self.census else {"timeContextFromParameter": "TimeRange"}
        content |= {"chartSettings": dict(self.chart)} if self.chart else {}
        if self.exports:
            content |= {"exportFieldName": "machine", "exportParameterName": self.exports, "exportDefaultValue": ""}
        content |= self._tile() if self.show == "tiles" else self._grid() if self.show == "table" else {}
        item = {"type": 3, "content": content, "customWidth": str(self.width), "name": self.name}
        visible = {"parameterName": self.needs, "comparison": "isNotEqualTo", "value": ""}
        return item | ({"conditionalVisibility": visible} if self.needs else {})

    def _tile(self) -> JSON:
        [(column, look)] = self.formats.items()
        return {"tileSettings": TILE | {"leftContent": {"columnMatch": column, **look}}}

    def _grid(self) -> JSON:
        shown = [name for name in LABELS if re.search(rf"\b{name}\b", text_of("panels", self.name))]
        formats = {**self.formats, **({"documents": LINK} if self.documents else {})}
        grid = {
            "formatters": [{"columnMatch": f"^{column}$", **look} for column, look in formats.items()],
            "labelSettings": [{"columnId": name, "label": LABELS[name]} for name in shown],
            "filter": True,
            "rowLimit": 10_000,
        }
        return {"showExportToExcel": True, "exportToExcelOptions": "all", "gridSettings": grid}


def number(palette: str, most: int | None = None) -> JSON:
    """A big number; green at 0 and red at `most`, where the palette goes from green to red."""
    return {
        "formatter": 12,
        "formatOptions": {"palette": palette} | ({} if most is None else {"min": 0, "max": most}),
        "numberFormat": {"unit": 17, "options": {"style": "decimal", "maximumFractionDigits": 0}},
    }


def icons(**icon_of: str) -> JSON:
    """An icon before each text; the icon `unknown` before all other texts."""
    known = [
        {"operator": "==", "thresholdValue": text, "representation": icon, "text": "{0}{1}"}
        for text, icon in icon_of.items()
    ]
    other = {"operator": "Default", "thresholdValue": None, "representation": "unknown", "text": "{0}{1}"}
    return {"formatter": 18, "formatOptions": {"thresholdsOptions": "icons", "thresholdsGrid": [*known, other]}}


def series(**look: tuple[str, str]) -> JSON:
    """The lines or bars of a chart: label and colour."""
    named = [{"seriesName": name, "label": label, "color": color} for name, (label, color) in look.items()]
    return {"seriesLabelSettings": named, "showLegend": True}


# The heading of a column whose name is not plain English.
LABELS = {
    "name": "machine (name)", "image_name": "image", "image_version": "version", "image_kind": "kind of image",
    "support_state": "support state", "patchers": "patched by", "compliance": "SLA", "within_percent": "within SLA",
    "sla_days": "SLA (days)", "pending_critical": "critical", "pending_security": "security", "pending_other": "other",
    "oldest_security": "oldest since", "last_assessed": "last assessed", "last_installed": "last installed",
    "due_at": "next check", "until": "next check", "expected": "expected installation",
    "first_expected": "first expected", "last_expected": "last expected", "not_assessed": "not assessed",
    "p50_seconds": "half within", "p95_seconds": "95 % within", "machine_count": "machines",
    "failed_stages": "failed stages", "longest_seconds": "longest", "most": "maximum",
    "row_key": "row of the ledger", "how_many": "machines", "OperationName": "function",
    "operation": "operation id", "TimeGenerated": "time", "first_day": "first day",
    "last_day": "last day", "patch_state": "state of the patch", "tried_at": "installation",
    "first_failed": "failed first", "closed_by": "closed by", "closed_because": "why closed",
    "operation_kind": "kind", "to_do": "to do", "in_flight": "in flight",
    "left_out": "left out", "stopped_by": "stopped by",
}  # fmt: skip
TILE: JSON = {"titleContent": {"columnMatch": "label", "formatter": 1}, "showBorder": True}
RESOURCE: JSON = {"formatter": 13, "formatOptions": {"linkTarget": "Resource", "showIcon": True}}
HIDDEN: JSON = {"formatter": 5}
MOMENT: JSON = {"formatter": 6}
LINK: JSON = {"formatter": 7, "formatOptions": {"linkTarget": "Url"}}  # the cell is the address; an empty one is none
HEAT: JSON = {"formatter": 8, "formatOptions": {"palette": "orange", "min": 0}}
RED_HEAT: JSON = {"formatter": 8, "formatOptions": {"palette": "red", "min": 0}}
BLUE_BAR: JSON = {"formatter": 3, "formatOptions": {"palette": "blue", "min": 0}}
GREEN_BAR: JSON = {"formatter": 3, "formatOptions": {"palette": "green", "min": 0, "max": 100}}
ONE_DIGIT = {"style": "decimal", "maximumFractionDigits": 1}
AVERAGE = {"numberFormat": {"unit": 0, "options": ONE_DIGIT}}
SECONDS: JSON = {"formatter": 0, "numberFormat": {"unit": 24, "options": ONE_DIGIT}}
PERCENT: JSON = GREEN_BAR | {"numberFormat": {"unit": 1, "options": ONE_DIGIT}}
SLA = {"within_percent": PERCENT, "late": RED_HEAT, "blocked": RED_HEAT, "unknown": HEAT}
VERDICT = icons(Supported="success", Unsupported="4")
NO_SWEEP = "No sweep finished: see the alert sweep-not-running."
NO_CENSUS = "No machine was counted: the first sweep counts them all, then each once a day at its own time."
MOMENTS = ("due_at", "expected", "created", "oldest_security", "last_assessed", "last_installed", "told")
LIST = {"machine": RESOURCE, "name": HIDDEN}  # a hidden column still serves the filter and the export
LINKED = {**LIST, "portal": HIDDEN}

# Pages of docs/ that say more of a row than its remedy does, as expressions of KQL over it.
CLOSE_A_BREAKER = "/stop.md#3-close-a-breaker-after-the-cause-is-fixed"
TROUBLES = """case(
    event == 'settings.refused', '/settings.md',
    event in ('app.paused', 'stop.unreadable', 'breaker.not-closed'), '/stop.md',
    event in ('notices.failing', 'notices.dropped'), '/notices.md',
    event == 'rollout.stuck', '/rollouts.md',
    event == 'run.unreadable', '/runs.md',
    event in ('operation.overdue', 'machine.unreadable'), '/states.md',
    '/troubleshoot.md')"""

TABS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "Fleet": (
        "The state of the fleet. States are those of the last sweep that saw them change. What waits on a machine is "
        "counted once a day at its own time. "
        "*Patched by nobody*: the guest leaves patching to Azure, and Azure does not patch machines from customized "
        "images. docs/states.md explains each state.",
        (
            Panel("nobody", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("greenRed", 1)}),
            Panel("late", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("greenRed", 1)}),
            Panel("needs-a-person", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("orange")}),
            Panel("machines", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("blue")}),
            Panel("last-sweep", "", NO_SWEEP, "tiles", 20, formats={"minutes": number("greenRed", 60)}),
            Panel("nobody-list", "Patched by nobody", "There is no such machine.", census=True, good=True,
                  formats=LIST | {"support_state": VERDICT, "pending_critical": RED_HEAT, "pending_security": HEAT},
                  documents="'/states.md'"),
            Panel("by-state", "Machines by state", NO_CENSUS, width=40, census=True, formats={"machines": BLUE_BAR}),
            Panel(
                "coverage", "Coverage over time (percent of the fleet)", NO_CENSUS, "linechart", 60,
                chart={"xAxis": "day", "ySettings": {"min": 0, "max": 100}} | series(
                    assessed_percent=("assessed", "blue"),
                    with_patcher_percent=("with a patcher", "orange"),
                    within_sla_percent=("within the SLA", "green"),
                ),
            ),
            Panel("sla-by-image", "Within the SLA, by image", NO_CENSUS, width=50, census=True, formats=SLA),
            Panel("sla-by-owner", "Within the SLA, by owner", NO_CENSUS, width=50, census=True, formats=SLA),
        ),
    ),
    "Images": (
        "For each image: whether Azure can patch it, and how many patches a machine lacks when it is created. Rebuild "
        "an image version whose new machines lack many patches.",
        (
            Panel(
                "support-by-image", "Support state by image", NO_CENSUS, width=60, census=True,
                formats={"unsupported": RED_HEAT, "undetermined": HEAT, "not_assessed": HEAT},
            ),
            Panel(
                "debt-at-birth", "Patch debt at creation (average of the first assessment)",
                "No machine was assessed for the first time in this time range.", width=40,
                formats={
                    "critical": RED_HEAT | AVERAGE, "security": HEAT | AVERAGE, "other": {"formatter": 0} | AVERAGE,
                },
            ),
            Panel(
                "time-to-assessed", "From creation to assessed", "No machine was assessed in this time range.",
                width=50, formats={"p50_seconds": SECONDS, "p95_seconds": SECONDS},
            ),
            Panel(
                "time-to-patched", "From creation to patched", "No installation succeeded in this time range.",
                width=50, formats={"p50_seconds": SECONDS, "p95_seconds": SECONDS},
            ),
        ),
    ),
    "Work": (
        "What the app does: installations and their failures, operations in flight, waiting machines; and what people "
        "did. *Patch* at the top finds a KB number or package in what installations reported; machines where it only "
        "waits are in Resource Graph (`patcher lacks`).",
        (
            Panel("installations", "Installations by outcome", "No installation ended in this time range.",
                  "barchart", 50, chart={"xAxis": "day", "yAxis": ["installations"], "group": "status"} | series(
                      Succeeded=("Succeeded", "green"), CompletedWithWarnings=("with warnings", "yellow"),
                      Failed=("Failed", "redBright"),
                  )),
            Panel("failures", "Failed installations, by reason and image", "No installation failed in this time range.",
                  width=50, good=True, formats={"failures": RED_HEAT, "newest": MOMENT}),
            Panel("first-failed", "Failed patches: on which machine of an image each failed first",
                  "No patch failed in this time range.", width=50, good=True,
                  formats=LIST | {"first_failed": MOMENT, "machine_count": HEAT}),
            Panel("where-is", "Where the patch named above is (parameter Patch)",
                  "No installation of this time range names it.", width=50, needs="Patch",
                  formats=LIST | {"tried_at": MOMENT, "patch_state": icons(
                      Installed="success", Failed="4", Pending="pending", Excluded="cancelled", NotSelected="info",
                  )}),
            Panel("in-flight", "In flight now", "No operation is in flight.", formats=LIST | {"started": MOMENT}),
            Panel("limits", "Machines that wait now, and until when", "No machine waits.", width=60, census=True,
                  formats=dict.fromkeys(("first_expected", "last_expected", "newest"), MOMENT) | {"machines": HEAT}),
            Panel("sweeps", "Sweeps per hour", NO_SWEEP, width=40,
                  formats={"hour": MOMENT, "failed_stages": RED_HEAT, "longest_seconds": SECONDS}),
            Panel("by-people", "Who did what", "No operator did anything in this time range.",
                  formats={"TimeGenerated": MOMENT, "until": MOMENT}),
        ),
    ),
    "Attention": (
        "What needs a person, and what to do. Breakers never close by themselves (docs/stop.md).",
        (
            Panel("breakers", "Breakers that opened, and who closed them", "No breaker opened.", good=True,
                  formats=dict.fromkeys(("opened", "closed"), MOMENT), documents=f"'{CLOSE_A_BREAKER}'"),
            Panel("held", "Machines that need a person", "No machine needs a person.", census=True, good=True,
                  formats=LINKED | {"seen": MOMENT, "until": MOMENT},
                  documents=f"iff(state == 'breaker-open', '{CLOSE_A_BREAKER}', '/states.md')"),
            Panel("started", "Machines that the app started and has not put back", "The app keeps no machine running.",
                  good=True, formats=LINKED | {"newest": MOMENT}, documents="'/settings.md#stopped-machines'"),
            Panel("grouped", "Failures that machines have in common", "No three machines have a failure in common.",
                  good=True, formats={"newest": MOMENT, "how_many": HEAT}),
            Panel("refusals", "Refused by Azure", "Azure refused nothing.", good=True,
                  formats={"newest": MOMENT, "refusals": HEAT}),
            Panel("runs", "Runs on demand", "No run was ordered.", good=True,
                  formats={"newest": MOMENT, "failed": RED_HEAT}),
            Panel("troubles", "Problems of the app", "None.", good=True, formats={"newest": MOMENT},
                  documents=TROUBLES),
            Panel("failed-invocations", "Functions that failed", "None failed.", width=40, good=True,
                  formats={"newest": MOMENT, "failures": RED_HEAT}),
            Panel("exceptions", "Exceptions", "None.", width=60, good=True, formats={"newest": MOMENT}),
        ),
    ),
    "Machines": (
        "Every machine: its state as a sweep last reported it, and its patches as they were last counted, a day ago at "
        "most. Filter above the columns, or export the table (the arrow at the right). Click a row to see below what "
        "happened to that machine in the time range.",
        (
            Panel("census", "All machines", NO_CENSUS, census=True, exports="Machine",
                  formats=LINKED | dict.fromkeys(MOMENTS, MOMENT) | {
                      "compliance": icons(within="success", late="4", blocked="2"), "support_state": VERDICT,
                      "pending_critical": RED_HEAT, "pending_security": HEAT,
                  }),
            Panel("history", "What happened to the clicked machine", "Nothing in this time range.",
                  needs="Machine", formats={"TimeGenerated": MOMENT, "until": MOMENT, "failed": RED_HEAT}),
            Panel("proof", "For the auditor: on how many days each machine was within the SLA", NO_CENSUS,
                  formats=LIST | dict.fromkeys(("first_day", "last_day", "last_installed"), MOMENT)
                  | {"late": RED_HEAT, "blocked": RED_HEAT, "unknown": HEAT}),
        ),
    ),
}  # fmt: skip


# From a tab that says how many to the tabs that say which and what to do.
LEADS: Mapping[str, Mapping[str, str]] = {
    "Fleet": {"Attention": "What needs a person, and what to do", "Machines": "Each machine, and what happened to it"},
    "Attention": {"Machines": "What happened to one machine"},
}


def workbook() -> JSON:
    return {
        "version": "Notebook/1.0",
        "items": [_parameters(), _tabs(), *(_tab(name, *content) for name, content in TABS.items())],
        "fallbackResourceIds": [WORKSPACE],
        "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
    }


def _parameters() -> JSON:
    common = {"version": "KqlParameterItem/1.0", "isRequired": True}
    time_range = common | {
        "id": _id("TimeRange"),
        "name": "TimeRange",
        "label": "Time range",
        "type": 4,
        "value": {"durationMs": 7 * 24 * 3_600_000},
        "typeSettings": {
            "selectableValues": [{"durationMs": days * 24 * 3_600_000} for days in (1, 2, 7, 14, 30, 90)],
            "allowCustom": True,
        },
    }
    image = common | {
        "id": _id("Image"),
        "name": "Image",
        "label": "Image",
        "type": 2,
        "multiSelect": True,
        "quote": "'",
        "delimiter": ",",
        "query": text_of("panels", "_images"),
        "crossComponentResources": [WORKSPACE],
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
        "timeContext": {"durationMs": TWO_DAYS_MS},
        "typeSettings": {"additionalResourceOptions": ["value::all"], "selectAllValue": "*", "showDefault": False},
        "value": ["value::all"],
    }
    patch = {
        "version": "KqlParameterItem/1.0",
        "id": _id("Patch"),
        "name": "Patch",
        "label": "Patch (KB number or package)",
        "type": 1,
        "value": "",
    }
    return {
        "type": 9,
        "content": {
            "version": "KqlParameterItem/1.0",
            "crossComponentResources": [WORKSPACE],
            "parameters": [time_range, image, patch],
            "style": "pills",
            "queryType": 0,
            "resourceType": "microsoft.operationalinsights/workspaces",
        },
        "name": "parameters",
    }


def _tabs() -> JSON:
    links = [_link_to(name, name, "tab") | {"preText": name} for name in TABS]
    return {"type": 11, "content": {"version": "LinkItem/1.0", "style": "tabs", "links": links}, "name": "tabs"}


def _leads(tab: str, leads: Mapping[str, str]) -> JSON:
    """Links of a tab to others, as a list: the text of each by its tab."""
    links = [_link_to(name, text, f"{tab} to") for name, text in leads.items()]
    content = {"version": "LinkItem/1.0", "style": "list", "links": links}
    return {"type": 11, "content": content, "name": f"{tab.lower()}-leads"}


def _link_to(tab: str, text: str, what: str) -> JSON:
    """Shows the tab: a click sets the parameter that selects the tab."""
    return {
        "id": _id(f"{what} {tab}"),
        "cellValue": "Tab",
        "linkTarget": "parameter",
        "linkLabel": text,
        "subTarget": tab,
        "style": "link",
    }


def _tab(name: str, introduction: str, panels: Sequence[Panel]) -> JSON:
    text = {"type": 1, "content": {"json": introduction}, "name": f"{name.lower()}-introduction"}
    leads = [_leads(name, LEADS[name])] if name in LEADS else []
    return {
        "type": 12,
        "content": {
            "version": "NotebookGroup/1.0",
            "groupType": "editable",
            "items": [text, *leads, *(panel.item() for panel in panels)],
        },
        "conditionalVisibility": {"parameterName": "Tab", "comparison": "isEqualTo", "value": name},
        "name": f"{name.lower()}-tab",
    }


def _id(what: str) -> str:
    """A stable id: the same at every build."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"image-patcher/{what}"))


# ---- files


def text_of(folder: str, name: str) -> str:
    return (HERE / folder / f"{name}.kql").read_text(encoding="utf-8").strip()


def files() -> Mapping[str, str]:
    """The committed files: name and text."""
    built = {"workbook.json": workbook(), "alerts.json": [alert.json() for alert in ALERTS]}
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in built.items()}


if __name__ == "__main__":
    for file_name, text in files().items():
        (HERE / file_name).write_text(text, encoding="utf-8")
