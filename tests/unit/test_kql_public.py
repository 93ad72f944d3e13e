"""What operators ask of Resource Graph about patches, over one small fleet with the rows expected by hand.

The documented queries stand here as they are published. The others were written for this project, in the forms that
public workbooks and the portal send.

The fleet's factors: Windows and Linux, Azure and Arc, assessed and not, an assessment that failed, reboot pending, an
update with and without severity, version and time, an installation that failed, a schedule with machines and with a
dynamic scope.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from simulator.resource_graph.kql import evaluate

PUBLISHED = json.loads(
    (Path(__file__).parent.parent / "recordings" / "arg_queries_public.json").read_text(encoding="utf-8")
)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Row = dict[str, Any]

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/RG-App"
LOWER = f"{SUBSCRIPTION}/resourcegroups/rg-app"
VM, ARC = "microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines"
WEEKLY = f"{GROUP}/providers/Microsoft.Maintenance/maintenanceConfigurations/Weekly"


def machine(name: str, kind: str, **properties: Any) -> Row:
    return {
        "id": f"{GROUP}/providers/{kind}/{name}",
        "name": name,
        "type": kind,
        "location": "westeurope",
        "properties": properties,
    }


def azure_machine(name: str, os: str, **settings: Any) -> Row:
    profile = {f"{os.lower()}Configuration": {"patchSettings": settings}}
    return machine(name, VM, storageProfile={"osDisk": {"osType": os}}, osProfile=profile)


def result(of: str, kind: str, table: str, name: str, child: str = "", **properties: Any) -> Row:
    """A row of one of the two patch tables: their ids are in another letter case than the machine's."""
    part = "patchAssessmentResults" if table == "assessment" else "patchInstallationResults"
    return {
        "id": f"{LOWER}/providers/{kind}/{of}/{part}/{name}" + (f"/softwarePatches/{child}" if child else ""),
        "name": child or name,
        "type": f"{kind}/{part.lower()}" + ("/softwarepatches" if child else ""),
        "location": "westeurope",
        "properties": properties,
    }


TABLES = {
    "resources": [
        azure_machine("win-1", "Windows", patchMode="AutomaticByOS", assessmentMode="AutomaticByPlatform"),
        azure_machine("lin-1", "Linux", patchMode="ImageDefault"),
        azure_machine(
            "lin-2",
            "Linux",
            patchMode="AutomaticByPlatform",
            automaticByPlatformSettings={"bypassPlatformSafetyChecksOnUserSchedule": True},
        ),
        machine("arc-1", ARC, osName="linux", status="Connected"),
        {
            "id": WEEKLY,
            "name": "Weekly",
            "type": "microsoft.maintenance/maintenanceconfigurations",
            "location": "westeurope",
            "properties": {"maintenanceScope": "InGuestPatch", "maintenanceWindow": {"duration": "03:55"}},
        },
        {
            "id": f"{GROUP}/providers/{ARC}/arc-1/licenseProfiles/default",
            "name": "default",
            "type": "microsoft.hybridcompute/machines/licenseprofiles",
            "properties": {"esuProfile": {"assignedLicense": f"{GROUP}/providers/x/LICENCES/one"}},
        },
        {
            "id": f"{GROUP}/providers/x/licences/ONE",
            "name": "one",
            "type": "microsoft.hybridcompute/licenses",
            "properties": {"licenseDetails": {"state": "Activated"}},
        },
    ],
    "patchassessmentresources": [
        result("win-1", VM, "assessment", "latest", status="Succeeded", osType="Windows", rebootPending=True,
               startDateTime="2026-11-22T02:00:00Z", lastModifiedDateTime="2026-11-22T02:10:00.5Z",
               startedBy="Platform", availablePatchCountByClassification={"security": 1, "critical": 0, "other": 0},
               configurationStatus={"vmGuestPatchReadiness": {"detectedVMGuestPatchSupportState": "Supported"}}),
        result("lin-1", VM, "assessment", "latest", status="Succeeded", osType="Linux", rebootPending=False,
               startDateTime="2026-11-21T02:00:00Z", lastModifiedDateTime="2026-11-21T02:05:00Z",
               startedBy="User", availablePatchCountByClassification={"security": 0, "critical": 0, "other": 2}),
        result("lin-2", VM, "assessment", "latest", status="Failed", osType="Linux",
               startDateTime="2026-11-20T02:00:00Z", lastModifiedDateTime="2026-11-20T02:05:00Z"),
        result("arc-1", ARC, "assessment", "latest", status="Succeeded", osType="Linux", rebootPending=False,
               startDateTime="2026-11-10T02:00:00Z", lastModifiedDateTime="2026-11-10T02:05:00Z",
               availablePatchCountByClassification={"security": 0, "critical": 0, "other": 0}),
        result("win-1", VM, "assessment", "latest", "p1", patchName="Update (KB5099001)", kbId="5099001",
               classifications=["Security"], msrcSeverity="Critical", publishedDateTime="2026-11-19T00:00:00Z",
               rebootBehavior="CanRequestReboot"),
        result("win-1", VM, "assessment", "latest", "p2", patchName="Rollup (KB5099002)", kbId="5099002",
               classifications=["UpdateRollUp"], publishedDateTime="2026-08-01T00:00:00Z"),
        result("lin-1", VM, "assessment", "latest", "libx", patchName="libx", version="1:2.3", kbId=None,
               classifications=["Other"], publishedDateTime=None),
        result("lin-1", VM, "assessment", "latest", "odd", patchName="odd", version="1", classifications=[]),
    ],
    "patchinstallationresources": [
        result("win-1", VM, "installation", "run-1", status="Succeeded", osType="Windows", installedPatchCount=2,
               failedPatchCount=0, pendingPatchCount=0, excludedPatchCount=0, notSelectedPatchCount=1,
               startDateTime="2026-11-20T22:00:00Z", lastModifiedDateTime="2026-11-20T22:30:00Z",
               startedBy="Platform", maintenanceRunId=f"{WEEKLY}/providers/x/applyupdates/1"),
        result("lin-1", VM, "installation", "run-2", status="Failed", osType="Linux", installedPatchCount=0,
               failedPatchCount=1, pendingPatchCount=1, excludedPatchCount=0, notSelectedPatchCount=0,
               startDateTime="2026-10-01T22:00:00Z", lastModifiedDateTime="2026-10-01T22:30:00Z", startedBy="User",
               errorDetails={"details": [{"code": "A", "message": "first"}, {"code": "B", "message": "second"}]}),
        result("win-1", VM, "installation", "run-1", "p1", patchName="Update (KB5099001)", kbId="5099001",
               classifications=["Security"], installationState="Installed",
               lastModifiedDateTime="2026-11-20T22:20:00Z"),
        result("lin-1", VM, "installation", "run-2", "libx", patchName="libx", version="1:2.3",
               classifications=["Other"], installationState="Failed", lastModifiedDateTime="2026-11-20T22:20:00Z"),
    ],
    "maintenanceresources": [
        {
            "id": f"{LOWER}/providers/{VM}/win-1/providers/microsoft.maintenance/configurationassignments/weekly",
            "name": "weekly",
            "type": "microsoft.maintenance/configurationassignments",
            "properties": {
                "maintenanceConfigurationId": WEEKLY,
                "resourceId": f"{GROUP}/providers/{VM}/win-1",
            },
        },
        {
            "id": f"{SUBSCRIPTION}/providers/microsoft.maintenance/configurationassignments/scope",
            "name": "scope",
            "type": "microsoft.maintenance/configurationassignments",
            "properties": {"maintenanceConfigurationId": WEEKLY.lower(), "filter": {"osTypes": ["Linux", "Windows"]}},
        },
        {
            "id": f"{WEEKLY.lower()}/providers/microsoft.maintenance/applyupdates/20261120220000",
            "name": "20261120220000",
            "type": "microsoft.maintenance/maintenanceconfigurations/applyupdates",
            "properties": {
                "startDateTime": "2026-11-20T22:00:00Z",
                "status": "InProgress",
                "maintenanceConfigurationId": WEEKLY,
                "resourceUpdateSummary": {"total": 2},
            },
        },
        {
            "id": f"{GROUP}/providers/{VM}/win-1/providers/microsoft.maintenance/updates",
            "name": "updates",
            "type": "microsoft.maintenance/updates",
            "properties": {"value": [{"maintenanceScope": "Host", "status": "NoUpdatesPending"}]},
        },
    ],
}  # fmt: skip

MACHINES = f"resources | where type in~ ('{VM}', '{ARC}')"
NEWEST = """
    patchassessmentresources
    | where type endswith '/patchassessmentresults' and properties.status =~ 'Succeeded'
    | parse id with owner '/patchAssessmentResults/' *
    | project machine = tolower(owner), found = properties"""
UPDATES = """patchassessmentresources
    | where type has 'softwarepatches'
    | parse id with owner '/patchAssessmentResults' *
    | extend class = iff(properties.classifications[0] =~ 'updaterollup', 'Rollup',
        iff(isempty(properties.classifications[0]), 'None', properties.classifications[0]))"""
NAME = "tostring(split(id, '/')[8])"

# Query and rows by name. A row is its values in the order of the columns.
ANSWERS: dict[str, tuple[str, list[list[Any]]]] = {
    "compliance: leftouter join on a parsed id, case() over counts": (
        f"""{MACHINES} | project machine = tolower(id)
        | join kind=leftouter ({NEWEST}) on machine
        | extend counts = found.availablePatchCountByClassification
        | extend verdict = case(isnull(found), 'unknown',
            toint(counts.security) > 0 or toint(counts.critical) > 0, 'behind', 'current')
        | summarize dcount(machine) by verdict | order by verdict asc""",
        [["behind", 1], ["current", 2], ["unknown", 1]],
    ),
    "shares by system: countif, pack, mv-expand of an object, a computed element": (
        f"""{MACHINES}
        | extend os = coalesce(tostring(properties.osName), tostring(properties.storageProfile.osDisk.osType))
        | summarize all_ = count(), linux = countif(os =~ 'Linux'), arc = countif(type =~ '{ARC}')
        | project tile = pack('All', all_, 'Linux', linux, 'Arc', arc) | mv-expand tile
        | extend name = tostring(bag_keys(tile)[0]) | project name, machines = tolong(tile[name])""",
        [["All", 4], ["Linux", 3], ["Arc", 1]],
    ),
    "periodic assessment: choice between dynamics, a percentage in a text": (
        f"""resources | where type =~ '{VM}'
        | extend os = tolower(coalesce(properties.osName, properties.storageProfile.osDisk.osType))
        | extend settings = iff(os == 'windows', properties.osProfile.windowsConfiguration.patchSettings,
            properties.osProfile.linuxConfiguration.patchSettings)
        | extend periodic = iff(tostring(settings.assessmentMode) =~ 'AutomaticByPlatform', 'on', 'off')
        | summarize off = round(todouble(countif(periodic == 'off')) / count() * 100, 2)
        | project text = strcat(off, '% without')""",
        [["66.67% without"]],
    ),
    "a whole percentage in a text: it keeps its fraction": (
        f"""{MACHINES} | summarize share = round(todouble(countif(isnotempty(name))) / count() * 100, 2)
        | project text = strcat(share, '%')""",
        [["100.0%"]],
    ),
    "machines without a text in a member that some do not have": (
        f"""resources | where type =~ '{VM}'
        | where properties.osProfile.windowsConfiguration.patchSettings.patchMode !contains 'ByOS'
        | project name | order by name asc""",
        [["lin-1"], ["lin-2"]],
    ),
    "orchestration: comparisons of dynamics, a dynamic as the last branch": (
        f"""resources | where type =~ '{VM}'
        | extend settings = iff(properties.storageProfile.osDisk.osType =~ 'windows',
            properties.osProfile.windowsConfiguration.patchSettings,
            properties.osProfile.linuxConfiguration.patchSettings)
        | extend mode = settings.patchMode
        | extend mode = case(mode =~ 'AutomaticByOS', 'by the system',
            mode =~ 'AutomaticByPlatform' and
                settings.automaticByPlatformSettings.bypassPlatformSafetyChecksOnUserSchedule == true, 'by schedule',
            isempty(mode), 'none', mode)
        | summarize count() by tostring(mode) | order by mode asc""",
        [["ImageDefault", 1], ["by schedule", 1], ["by the system", 1]],
    ),
    "reboot pending: a dynamic compared with a bool after a join": (
        f"""{MACHINES} | project machine = tolower(id), type
        | join kind=leftouter ({NEWEST} | extend reboot = found.rebootPending) on machine
        | where reboot == true | extend where_ = iff(type =~ '{ARC}', 'Arc', 'Azure')
        | summarize machines = count() by where_ | project text = strcat(machines, ' in ', where_)""",
        [["1 in Azure"]],
    ),
    "pending updates: nested choices between dynamic and text": (
        f"{UPDATES} | summarize updates = count(), dcount(owner) by class | order by class asc",
        [["None", 1, 1], ["Other", 1, 1], ["Rollup", 1, 1], ["Security", 1, 1]],
    ),
    "unique names of updates: a version where there is no knowledge base number": (
        f"""{UPDATES}
        | extend severity = iff(isnotnull(properties.msrcSeverity), properties.msrcSeverity, 'N/A')
        | extend unique = iff(isnull(properties.kbId),
            strcat(tostring(properties.patchName), '_', tostring(properties.version)), properties.patchName)
        | project unique, severity | order by unique asc""",
        [["Rollup (KB5099002)", "N/A"], ["Update (KB5099001)", "Critical"], ["libx_1:2.3", "N/A"], ["odd_1", "N/A"]],
    ),
    "age of updates: a time from a choice with an empty text": (
        f"""{UPDATES}
        | extend at = todatetime(iff(isnotnull(properties.publishedDateTime), properties.publishedDateTime, ''))
        | extend age = case(at >= ago(7d), 'week', at < ago(7d) and at >= ago(90d), 'quarter', at < ago(90d), 'older',
            'unknown')
        | summarize count() by age | order by age asc""",
        [["older", 1], ["unknown", 2], ["week", 1]],
    ),
    "the machines behind each class: make_set": (
        f"{UPDATES} | extend machine = {NAME} | summarize machines = make_set(machine) by class | order by class asc",
        [["None", ["lin-1"]], ["Other", ["lin-1"]], ["Rollup", ["win-1"]], ["Security", ["win-1"]]],
    ),
    "urgent updates: a text over aggregates": (
        f"""{UPDATES} | where class contains 'security' or class =~ 'critical'
        | summarize text = strcat(count(), ' on ', dcount(owner), ' machine(s)')""",
        [["1 on 1 machine(s)"]],
    ),
    "recent installations: a dynamic compared with a time, names of paths": (
        f"""patchinstallationresources
        | where type in~ ('{VM}/patchinstallationresults', '{ARC}/patchinstallationresults')
        | where properties.startDateTime > ago(30d)
        | parse id with * 'achines/' machine '/patchInstallationResults/' *
        | project machine, properties.status, properties.startedBy,
            schedule = tolower(split(tostring(properties.maintenanceRunId), '/providers/x')[0])""",
        [["win-1", "Succeeded", "Platform", WEEKLY.lower()]],
    ),
    "the newest installation: top by a cast": (
        f"""patchinstallationresources | where type !has 'softwarepatches'
        | top 1 by todatetime(properties.lastModifiedDateTime)
        | project run = name, minutes = datetime_diff('minute', todatetime(properties.lastModifiedDateTime),
            todatetime(properties.startDateTime)), machine = {NAME}""",
        [["run-1", 30, "win-1"]],
    ),
    "the last run's beginning: a period with a capital": (
        """patchinstallationresources | where type endswith '/patchinstallationresults'
        | top 1 by todatetime(properties.lastModifiedDateTime)
        | project since = datetime_add('Hour', -12, todatetime(properties.lastModifiedDateTime)),
            hours = datetime_diff('Hour', todatetime(properties.lastModifiedDateTime), datetime(2026-11-20))""",
        [["2026-11-20T10:30:00.0000000Z", 22]],
    ),
    "packages of the last run for the next stage: a table joined with itself, then with another": (
        """patchinstallationresources | where type endswith '/patchinstallationresults'
        | extend run = tolower(split(properties.maintenanceRunId, '/providers/x')[0])
        | extend machine = tostring(split(tolower(id), '/patchinstallationresults/')[0])
        | join kind=inner (patchinstallationresources | where type endswith '/softwarepatches'
            | project machine = tostring(split(tolower(id), '/patchinstallationresults/')[0]),
                kb = tostring(properties.kbId), state = tostring(properties.installationState)) on machine
        | join kind=inner (resources | where type == 'microsoft.maintenance/maintenanceconfigurations'
            | project run = tolower(id), duration = tostring(properties.maintenanceWindow.duration)) on run
        | where state == 'Installed' | distinct kb, duration""",
        [["5099001", "03:55"]],
    ),
    "one history of both tables: a union with columns that one lacks, places in a path counted": (
        f"""patchinstallationresources | where type == '{VM}/patchinstallationresults'
        | project machine = substring(id, indexof(id, 'virtualmachines') + 16,
            indexof(id, 'patch') - indexof(id, 'virtualmachines') - 17), what = 'installation',
            installed = properties.installedPatchCount
        | union (patchassessmentresources | where type == '{VM}/patchassessmentresults'
            | project machine = substring(id, indexof(id, 'virtualmachines') + 16,
                indexof(id, 'patch') - indexof(id, 'virtualmachines') - 17), what = 'assessment')
        | order by machine asc, what asc""",
        [
            ["lin-1", "assessment", None],
            ["lin-1", "installation", 0],
            ["lin-2", "assessment", None],
            ["win-1", "assessment", None],
            ["win-1", "installation", 2],
        ],
    ),
    "errors of installations: mv-expand of a path": (
        f"""patchinstallationresources | where isnotnull(properties.errorDetails)
        | mv-expand error = properties.errorDetails.details
        | project {NAME}, code = tostring(error.code), text = strcat(error.code, ': ', error.message)""",
        [["lin-1", "A", "A: first"], ["lin-1", "B", "B: second"]],
    ),
    "Windows updates installed: no version in the bag": (
        """patchinstallationresources
        | where type has "softwarepatches" and properties !has "version"
        | extend tostring(run = split(id, '/', 10)), prop = parse_json(properties)
        | project run, patch = tostring(prop.patchName), state = tostring(prop.installationState)""",
        [['["run-1"]', "Update (KB5099001)", "Installed"]],
    ),
    "Linux updates: a version in the bag": (
        """patchinstallationresources | where type has "softwarepatches" and properties has "version"
        | project tostring(properties.patchName), tostring(properties.version)""",
        [["libx", "1:2.3"]],
    ),
    "last assessment of each machine: arg_max of a computed time": (
        f"""patchassessmentresources | where type !has 'softwarepatches'
        | summarize arg_max(todatetime(properties.lastModifiedDateTime), tostring(properties.status))
            by machine = {NAME}
        | project machine, properties_status | order by machine asc""",
        [["arc-1", "Succeeded"], ["lin-1", "Succeeded"], ["lin-2", "Failed"], ["win-1", "Succeeded"]],
    ),
    "schedules: quoted names, lengths of ids, left and right keys": (
        """resources | where ['type'] =~ 'microsoft.maintenance/maintenanceconfigurations'
        | where properties.maintenanceScope == 'InGuestPatch'
        | project id = tolower(id), name, tostring(properties.maintenanceWindow.duration)
        | join kind=leftouter (
            maintenanceresources
            | where type =~ 'microsoft.maintenance/configurationassignments'
            | extend parts = split(id, '/')
            | extend is_scope = array_length(parts) == 7 or array_length(parts) == 9
            | extend configuration = tolower(tostring(properties.maintenanceConfigurationId))
            | summarize machines = dcountif(id, is_scope == false), scopes = dcountif(id, is_scope) by configuration
        ) on $left.id == $right.configuration
        | project name, properties_maintenanceWindow_duration, iff(isnull(machines), 0, machines), scopes""",
        [["Weekly", "03:55", 1, 1]],
    ),
    "machines of a schedule": (
        f"""maintenanceresources
        | where ['type'] =~ 'microsoft.maintenance/configurationassignments'
        | where properties.maintenanceConfigurationId =~ '{WEEKLY}' and isnotempty(properties.resourceId)
        | project machine = tolower(properties.resourceId)""",
        [[f"{GROUP}/providers/{VM}/win-1".lower()]],
    ),
    "systems of a dynamic scope: mv-expand to a type": (
        """maintenanceresources | extend criteria = properties['filter'] | where isnotnull(criteria)
        | mv-expand os = criteria.osTypes to typeof(string) | project name, os""",
        [["scope", "Linux"], ["scope", "Windows"]],
    ),
    "tiles of the whole fleet: two bracketed tables, comments, conditions on dynamics counted, a bool in a text": (
        f"""({MACHINES} // the left side
        | extend machine = tolower(id) | project machine, name)
        | join kind=leftouter // the right side
        (({NEWEST} | extend counts = found.availablePatchCountByClassification))
        on $left.machine == $right.machine
        | summarize everything = countif(1 == 1), none = countif(isnull(found) == true),
            restarts = countif(isnotnull(found) and found.rebootPending == 'true'),
            behind = countif(found.osType =~ 'Linux' and (counts.security>0 or counts.other>0)),
            current = countif(found.osType =~ 'Linux' and (counts.security==0 and counts.other==0))""",
        [[4, 1, 1, 1, 1]],
    ),
    "sums of pending updates: sumif of casts, a constant column": (
        f"""{NEWEST} | extend counts = found.availablePatchCountByClassification
        | summarize total = 0, windows = sumif(toint(counts.security), found.osType =~ 'Windows' and counts.security>0),
            others = sumif(toint(counts.other) + toint(counts.critical), isnotnull(found))""",
        [[0, 1, 2]],
    ),
    "the most widespread updates: ranks by case(), three sort keys, take": (
        f"""{UPDATES}
        | extend severity = iff(isnotnull(properties.msrcSeverity), properties.msrcSeverity, 'N/A')
        | summarize machines = dcount(owner) by class, severity
        | extend rank = case(severity =~ 'Critical', 0, severity =~ 'Low', 3, 4),
            first = iff(class in~ ('security', 'critical'), 0, 1)
        | sort by rank asc, first asc, class desc | project class, severity, machines | take 3""",
        [["Security", "Critical", 1], ["Rollup", "N/A", 1], ["Other", "N/A", 1]],
    ),
    "runs of schedules: an end without a value, counts that may be missing, a path in an address": (
        """maintenanceresources
        | where type =~ 'microsoft.maintenance/maintenanceconfigurations/applyupdates'
        | where todatetime(properties.startDateTime) > datetime('2026-11-01T00:00:00Z')
        | extend schedule = tolower(properties.maintenanceConfigurationId)
        | join kind=leftouter (resources
            | where type =~ 'microsoft.maintenance/maintenanceconfigurations'
            | project schedule = tolower(id), title = name) on schedule
        | extend ended = iff(properties.status =~ 'InProgress', datetime(null), todatetime(properties.endDateTime))
        | extend done = iff(isempty(properties.resourceUpdateSummary.succeeded), 0,
            properties.resourceUpdateSummary.succeeded)
        | extend all_ = iff(isempty(properties.resourceUpdateSummary.total), 0, properties.resourceUpdateSummary.total)
        | project-rename run = name
        | project run, title, ended, machines = strcat(done, ' of ', all_),
            link = strcat_array(split('a/b', '/'), '%2F')
        | order by run desc | take 1000""",
        [["20261120220000", "Weekly", None, "0 of 2", "a%2Fb"]],
    ),
    "platform updates: mv-expand, then a member in a list": (
        """maintenanceresources | where type =~ 'microsoft.maintenance/updates'
        | mv-expand update = properties.value | where update.maintenanceScope in~ ('host')
        | project update.status""",
        [["NoUpdatesPending"]],
    ),
    "licences of Arc servers: the parent's id by a pattern, two joins, the third table's properties": (
        rf"""resources | where type =~ '{ARC}' | extend machine = tolower(id)
        | join kind=leftouter (resources
            | where type =~ '{ARC}/licenseProfiles'
            | extend machine = tolower(tostring(trim_end(@'\/\w+\/(\w|\.)+', id)))
            | extend licence = tolower(tostring(properties.esuProfile.assignedLicense))
        ) on $left.machine == $right.machine
        | join kind=leftouter (resources
            | where type =~ 'microsoft.hybridcompute/licenses' | extend licence = tolower(id)
        ) on licence
        | project name, verdict = case(properties2.licenseDetails.state =~ 'Activated', 'enabled', 'unknown')""",
        [["arc-1", "enabled"]],
    ),
    "subscriptions of a machine's schedules: parse of a dynamic, make_list, a union with other columns": (
        f"""maintenanceresources | where type =~ 'microsoft.maintenance/configurationassignments'
        | where properties.resourceId =~ '{GROUP}/providers/{VM}/win-1'
        | parse properties.maintenanceConfigurationId with * '/subscriptions/' subscription '/' *
        | distinct subscription | summarize subscriptions = make_list(subscription)
        | project subscriptions, is_scope = 'False'
        | union (maintenanceresources
            | where type =~ 'microsoft.maintenance/configurationassignments'
            | extend parts = split(id, '/')
            | where array_length(parts) == 7 or array_length(parts) == 9
            | project name, is_scope = 'True')""",
        [[["00000000-0000-0000-0000-000000000001"], "False", ""], [None, "True", "scope"]],
    ),
    "kinds of images: a list or alternatives, negated inside a choice": (
        """resources | where name in ('win-1', 'lin-1')
        | extend os = tolower(tostring(properties.storageProfile.osDisk.osType))
        | extend image = iff(os == 'windows', 'microsoftwindowsserver:windowsserver:2022', 'canonical:ubuntu:22')
        | extend foreign_ = isnotempty(image) and not(iff(os =~ 'windows',
            (image in ('a:b:c') or image matches regex 'microsoftpowerbi:.+:*|microsoftwindowsserver:windowsserver:.+'),
            not(image in ('d:e:f') or image matches regex 'openlogic:.+|canonical:.+:*')))
        | project name, foreign_ | order by name asc""",
        [["lin-1", True], ["win-1", False]],
    ),
    "a sample of updates per machine: make_set with a limit, a list in one text": (
        """patchassessmentresources | where type endswith '/softwarepatches'
        | extend machine = tostring(split(id, '/', 8)[0]), patch = tostring(properties.patchName)
        | summarize updates = make_set(patch, 6), text = strcat_array(make_list(strcat(patch, '!')), '; ')
            by machine, group_ = tolower(resourceGroup) | where machine == 'lin-1' | project updates, text""",
        [[["libx", "odd"], "libx!; odd!"]],
    ),
    "machines without a successful assessment: leftanti": (
        f"{MACHINES} | extend machine = tolower(id) | join kind=leftanti ({NEWEST}) on machine | project name",
        [["lin-2"]],
    ),
    "no table named": (f"where type =~ '{VM}' | summarize count() by location", [["westeurope", 3]]),
    "how many": (f"{MACHINES} | count", [[4]]),
    "where they are": (f"{MACHINES} | distinct location, type | order by type asc | project type", [[VM], [ARC]]),
    "support state of each machine: a member of what is missing": (
        """patchassessmentresources | where type !has 'softwarepatches'
        | extend state = tostring(properties.configurationStatus.vmGuestPatchReadiness.detectedVMGuestPatchSupportState)
        | extend state = iff(isempty(state), 'absent', state)
        | summarize machines = count() by state | order by state asc""",
        [["Supported", 1], ["absent", 3]],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_operators_ask(name: str) -> None:
    query, rows = ANSWERS[name]
    assert [list(row.values()) for row in evaluate(query, TABLES, NOW).rows] == rows


# ---- as published


def category(row: Row) -> list[Any]:
    """What the documented query shows of an assessment."""
    counts = row["properties"].get("availablePatchCountByClassification") or {}
    names = (
        "updateRollup", "featurePack", "servicePack", "definition", "security", "critical", "updates", "tools", "other",
    )  # fmt: skip
    properties = row["properties"]
    return [properties["lastModifiedDateTime"], row["id"], properties["osType"], *(counts.get(name) for name in names)]


DOCUMENTED: dict[str, list[list[Any]]] = {
    "updates by category": [category(row) for row in TABLES["patchassessmentresources"][:4]],
    "count of installations": [
        ["2026-11-20T22:30:00.0000000Z", "run-1", '["win-1"]', '["rg-app"]', '["microsoft.compute"]', "Windows",
         "2", "0", "0", "0", "1"],
    ],
    "schedule assignments of a machine": [["weekly", TABLES["maintenanceresources"][0]["id"]]],
}  # fmt: skip
PLACEHOLDERS = {
    "<maintenance configuration Resource ID>": WEEKLY.upper(),
    "<Machine Resource Id>": f"{LOWER}/providers/{VM}/win-1",
}


@pytest.mark.parametrize("published", [pytest.param(each, id=each["name"]) for each in PUBLISHED["queries"]])
def test_what_the_documentation_publishes(published: Row) -> None:
    query = published["query"]
    for placeholder, value in PLACEHOLDERS.items():
        query = query.replace(placeholder, value)
    assert [list(row.values()) for row in evaluate(query, TABLES, NOW).rows] == DOCUMENTED[published["name"]]
