"""Makes workbook.json and alerts.json from the queries beside it: `python infra/results/build.py`.

The queries are files of their own (panels/, alerts/), so that they can be read, checked and run alone; what stands
here is the order in which people see them, and what an alert means. The two JSON files are committed, because Bicep
loads them, and a test holds them to what this makes. No id of a subscription or resource is in here: the workspace is
put in by Bicep, at __WORKSPACE_ID__.
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
TWO_DAYS_MS = 2 * 24 * 3_600_000  # the newest census is in there, whatever time range is chosen


# ---- alerts


@dataclass(frozen=True)
class Alert:
    """One rule. Its query returns a row for each thing to tell; `meaning` says what it is and what to do."""

    name: str
    title: str
    meaning: str
    severity: int  # 0 critical, 1 error, 2 warning, 3 informational
    frequency: str
    window: str

    def json(self) -> JSON:
        return {
            "name": self.name,
            "displayName": f"Image Patcher: {self.title}",
            "description": self.meaning,
            "severity": self.severity,
            "frequency": self.frequency,
            "window": self.window,
            "query": text_of("alerts", self.name),
            "threshold": 0,
        }


ALERTS = (
    Alert(
        "app-without-functions",
        "the app has no functions",
        "The Python code did not load, so no event, message or timer is answered. Read the exception in AppExceptions; "
        "deploy the release before again (docs/deploy.md). Events are delivered again for a day.",
        1, "PT5M", "PT15M",
    ),
    Alert(
        "settings-refused",
        "app settings are refused",
        "A setting is wrong, and nothing is called until it is put right. The alert names the setting and what it may "
        "hold (docs/settings.md).",
        1, "PT15M", "PT30M",
    ),
    Alert(
        "sweep-not-running",
        "no sweep has finished for an hour",
        "Nothing is handed out or settled. Look for settings.refused, sweep.failed and step.failed lines, then whether "
        "the app is stopped. A RECONCILE_SCHEDULE of more than an hour needs a longer window here.",
        1, "PT15M", "PT1H",
    ),
    Alert(
        "breaker-open",
        "installations of an image are stopped",
        "Too many machines of an image failed, and the rest of it waits until a person closes this opening. Look at "
        "what failed, then do what the remedy says (docs/stop.md). It tells again while machines wait for it.",
        1, "PT15M", "PT15M",
    ),
    Alert(
        "installations-failed",
        "installations failed",
        "One row an image: how many installations failed, on how many machines, and the newest reason. The machines "
        "are held and tried again by themselves; the workbook's tab Attention has the remedy of each.",
        2, "PT1H", "PT1H",
    ),
    Alert(
        "poisoned-messages",
        "messages cannot be worked off",
        "A message failed five times (its machine is held), or lies in a poison queue where no function can read it "
        "(poison.found). Read step.failed for the cause; look at the queue's messages, then delete them: the sweep "
        "finds their machines again.",
        2, "PT30M", "PT30M",
    ),
    Alert(
        "machines-overdue",
        "an operation does not end",
        "An assessment or installation is open an hour after its own limit. Check the VM agent; restart the machine if "
        "the operation stays open. Nothing else is started on it meanwhile.",
        2, "PT1H", "PT1H",
    ),
    Alert(
        "sweep-failed",
        "a stage of the sweep keeps failing",
        "Three sweeps in an hour had no answer for a stage, and nothing was decided on it: a right that is missing, or "
        "a service that is down. The problem says which.",
        2, "PT30M", "PT1H",
    ),
    Alert(
        "failures-grouped",
        "machines share a failure",
        "Three or more machines of one image, operating system or agent version are held for the same reason: look at "
        "what they share, not at each machine. Written with the daily census.",
        3, "PT6H", "PT6H",
    ),
    Alert(
        "journal-sampled",
        "journal lines are missing",
        "Application Insights dropped lines of the journal, so every number in the workbook is too low. host.json must "
        "exclude Trace from sampling, as the release's own does.",
        2, "PT1H", "PT1H",
    ),
)  # fmt: skip


# ---- the workbook


@dataclass(frozen=True)
class Panel:
    """One query of the workbook, and how it is shown."""

    name: str
    title: str
    empty: str  # what it means that there are no rows
    show: str = "table"
    width: int = 100
    census: bool = False  # of the newest census, whatever the time range is
    good: bool = False  # no rows are good news
    exports: str = ""  # the parameter that takes the `machine` of the row that is clicked
    needs: str = ""  # shown only when this parameter has a value
    formats: Mapping[str, JSON] = field(default_factory=dict)
    chart: Mapping[str, Any] = field(default_factory=dict)

    def item(self) -> JSON:
        content: JSON = {
            "version": "KqlItem/1.0",
            "query": text_of("panels", self.name),
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
        grid = {
            "formatters": [{"columnMatch": f"^{column}$", **look} for column, look in self.formats.items()],
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
    """An icon before each text; `unknown` before all others."""
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


# What people read above a column, where its name is not a word of its own.
LABELS = {
    "name": "machine (name)", "image_name": "image", "image_version": "version", "image_kind": "kind of image",
    "support_state": "support state", "patchers": "patched by", "compliance": "SLA", "within_percent": "within SLA",
    "sla_days": "SLA (days)", "pending_critical": "critical", "pending_security": "security", "pending_other": "other",
    "oldest_security": "oldest since", "last_assessed": "last assessed", "last_installed": "last installed",
    "due_at": "looked at again", "until": "looked at again", "not_assessed": "not assessed",
    "p50_seconds": "half within", "p95_seconds": "95 % within", "machine_count": "machines",
    "failed_stages": "failed stages", "longest_seconds": "longest", "handed_out": "handed out",
    "row_key": "row of the ledger", "how_many": "machines", "OperationName": "function",
    "operation": "operation id", "TimeGenerated": "when", "first_day": "first day",
    "last_day": "last day",
}  # fmt: skip
TILE: JSON = {"titleContent": {"columnMatch": "label", "formatter": 1}, "showBorder": True}
RESOURCE: JSON = {"formatter": 13, "formatOptions": {"linkTarget": "Resource", "showIcon": True}}
HIDDEN: JSON = {"formatter": 5}
MOMENT: JSON = {"formatter": 6}
HEAT: JSON = {"formatter": 8, "formatOptions": {"palette": "orange", "min": 0}}
RED_HEAT: JSON = {"formatter": 8, "formatOptions": {"palette": "red", "min": 0}}
BLUE_BAR: JSON = {"formatter": 3, "formatOptions": {"palette": "blue", "min": 0}}
GREEN_BAR: JSON = {"formatter": 3, "formatOptions": {"palette": "green", "min": 0, "max": 100}}
ONE_DIGIT = {"style": "decimal", "maximumFractionDigits": 1}
AVERAGE = {"numberFormat": {"unit": 0, "options": ONE_DIGIT}}
SECONDS: JSON = {"formatter": 0, "numberFormat": {"unit": 24, "options": ONE_DIGIT}}
PERCENT: JSON = GREEN_BAR | {"numberFormat": {"unit": 1, "options": ONE_DIGIT}}
SLA = {"within_percent": PERCENT, "late": RED_HEAT, "unknown": HEAT}
VERDICT = icons(Supported="success", Unsupported="4")
NO_SWEEP = "No sweep finished: see the alert about it."
NO_CENSUS = "No census yet: it is written once a day, by the first sweep after midnight (UTC)."
MOMENTS = ("due_at", "created", "oldest_security", "last_assessed", "last_installed", "counted")
LIST = {"machine": RESOURCE, "name": HIDDEN}  # what is hidden is there for the filter and in an export
LINKED = {**LIST, "portal": HIDDEN}

TABS: Mapping[str, tuple[str, Sequence[Panel]]] = {
    "Fleet": (
        "How the fleet stands, by the newest daily census. *Patched by nobody*: the guest leaves patching to Azure, "
        "and Azure does not patch machines from customized images. Each state is explained in docs/states.md.",
        (
            Panel("nobody", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("greenRed", 1)}),
            Panel("late", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("greenRed", 1)}),
            Panel("needs-a-person", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("orange")}),
            Panel("machines", "", NO_CENSUS, "tiles", 20, True, formats={"machines": number("blue")}),
            Panel("last-sweep", "", NO_SWEEP, "tiles", 20, formats={"minutes": number("greenRed", 60)}),
            Panel("nobody-list", "Patched by nobody", "No machine is patched by nobody.", census=True, good=True,
                  formats=LIST | {"support_state": VERDICT, "pending_critical": RED_HEAT, "pending_security": HEAT}),
            Panel("by-state", "Machines by state", NO_CENSUS, width=40, census=True, formats={"machines": BLUE_BAR}),
            Panel(
                "coverage", "Coverage over time (percent of the fleet)", NO_CENSUS, "linechart", 60,
                chart={"xAxis": "day", "ySettings": {"min": 0, "max": 100}} | series(
                    assessed_percent=("assessed", "blue"),
                    patched_by_somebody_percent=("patched by somebody", "orange"),
                    within_sla_percent=("within the SLA", "green"),
                ),
            ),
            Panel("sla-by-image", "Within the SLA, by image", NO_CENSUS, width=50, census=True, formats=SLA),
            Panel("sla-by-owner", "Within the SLA, by owner", NO_CENSUS, width=50, census=True, formats=SLA),
        ),
    ),
    "Images": (
        "What images bring with them: whether Azure can patch them, and how many patches a machine lacks when it is "
        "created. A version with much debt at birth is worth building anew.",
        (
            Panel(
                "support-by-image", "Support state by image", NO_CENSUS, width=60, census=True,
                formats={"unsupported": RED_HEAT, "undetermined": HEAT, "not_assessed": HEAT},
            ),
            Panel(
                "debt-at-birth", "Patch debt at birth (average of the first assessment)",
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
        "What the app does: installations and their failures, what runs now, and what waits for a limit of the fleet.",
        (
            Panel("installations", "Installations by outcome", "No installation ended.", "barchart", 50,
                  chart={"xAxis": "day", "yAxis": ["installations"], "group": "status"} | series(
                      Succeeded=("Succeeded", "green"), CompletedWithWarnings=("with warnings", "yellow"),
                      Failed=("Failed", "redBright"),
                  )),
            Panel("failures", "Failed installations, by reason and image", "No installation failed.", width=50,
                  good=True, formats={"failures": RED_HEAT, "newest": MOMENT}),
            Panel("in-flight", "In flight now", "Nothing runs.", formats=LIST | {"started": MOMENT}),
            Panel("limits", "Machines that wait for a limit of the fleet", "No machine waits for a limit.", width=60,
                  formats={"newest": MOMENT, "machines": HEAT}),
            Panel("sweeps", "Sweeps, by the hour", NO_SWEEP, width=40,
                  formats={"hour": MOMENT, "failed_stages": RED_HEAT, "longest_seconds": SECONDS}),
        ),
    ),
    "Attention": (
        "What waits for a person, with what to do. Breakers never close by themselves (docs/stop.md).",
        (
            Panel("breakers", "Breakers that opened", "No breaker opened.", good=True, formats={"opened": MOMENT}),
            Panel("held", "Machines that wait for a person", "No machine waits for a person.", census=True, good=True,
                  formats=LINKED | {"seen": MOMENT, "until": MOMENT}),
            Panel("grouped", "Failures that machines share", "No failure is shared by three machines.", good=True,
                  formats={"newest": MOMENT, "how_many": HEAT}),
            Panel("refusals", "Refused by Azure", "Azure refused nothing.", good=True,
                  formats={"newest": MOMENT, "refusals": HEAT}),
            Panel("troubles", "Troubles of the app", "None.", good=True, formats={"newest": MOMENT}),
            Panel("failed-invocations", "Functions that failed", "None failed.", width=40, good=True,
                  formats={"newest": MOMENT, "failures": RED_HEAT}),
            Panel("exceptions", "Exceptions", "None.", width=60, good=True, formats={"newest": MOMENT}),
        ),
    ),
    "Machines": (
        "Every machine of the newest census: filter above the columns, or export it (the arrow at the right). "
        "Click a row, and what happened to that machine in the time range is shown below.",
        (
            Panel("census", "All machines", NO_CENSUS, census=True, exports="Machine",
                  formats=LINKED | dict.fromkeys(MOMENTS, MOMENT) | {
                      "compliance": icons(within="success", late="4"), "support_state": VERDICT,
                      "pending_critical": RED_HEAT, "pending_security": HEAT,
                  }),
            Panel("history", "What happened to the machine that was clicked", "Nothing, in this time range.",
                  needs="Machine", formats={"TimeGenerated": MOMENT, "until": MOMENT, "failed": RED_HEAT}),
            Panel("proof", "For the auditor: on how many days each machine was within the SLA", NO_CENSUS,
                  formats=LIST | dict.fromkeys(("first_day", "last_day", "last_installed"), MOMENT)
                  | {"late": RED_HEAT, "unknown": HEAT}),
        ),
    ),
}  # fmt: skip


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
    return {
        "type": 9,
        "content": {
            "version": "KqlParameterItem/1.0",
            "crossComponentResources": [WORKSPACE],
            "parameters": [time_range, image],
            "style": "pills",
            "queryType": 0,
            "resourceType": "microsoft.operationalinsights/workspaces",
        },
        "name": "parameters",
    }


def _tabs() -> JSON:
    links = [
        {
            "id": _id(f"tab {name}"),
            "cellValue": "Tab",
            "linkTarget": "parameter",
            "linkLabel": name,
            "subTarget": name,
            "preText": name,
            "style": "link",
        }
        for name in TABS
    ]
    return {"type": 11, "content": {"version": "LinkItem/1.0", "style": "tabs", "links": links}, "name": "tabs"}


def _tab(name: str, introduction: str, panels: Sequence[Panel]) -> JSON:
    text = {"type": 1, "content": {"json": introduction}, "name": f"{name.lower()}-introduction"}
    return {
        "type": 12,
        "content": {
            "version": "NotebookGroup/1.0",
            "groupType": "editable",
            "items": [text, *(panel.item() for panel in panels)],
        },
        "conditionalVisibility": {"parameterName": "Tab", "comparison": "isEqualTo", "value": name},
        "name": f"{name.lower()}-tab",
    }


def _id(what: str) -> str:
    """The same at every build."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"image-patcher/{what}"))


# ---- files


def text_of(folder: str, name: str) -> str:
    return (HERE / folder / f"{name}.kql").read_text(encoding="utf-8").strip()


def files() -> Mapping[str, str]:
    """What is committed: file name and text."""
    made = {"workbook.json": workbook(), "alerts.json": [alert.json() for alert in ALERTS]}
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in made.items()}


if __name__ == "__main__":
    for file_name, text in files().items():
        (HERE / file_name).write_text(text, encoding="utf-8")
