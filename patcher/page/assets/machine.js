"use strict";
// One machine: what the fleet's document says at once, and, on a live page, why and what happened.

/**
 * `details`: the server's answer, null while it is on its way, or a problem's text. `seen`: what this page saw.
 * `explained`: rules and evidence that a report holds of this machine.
 */
function drawMachine(place, row, { details, seen, live, explained }) {
  const found = details && typeof details === "object" ? details : null;
  const reasons = found ?? explained;
  show(
    place,
    h("p", { class: "back" }, h("a", { href: "#/", "data-key": "back" }, "All machines")),
    h("h1", { tabindex: "-1", id: "machine-name", "data-key": "machine name" }, row.name),
    h(
      "p",
      { class: "verdict" },
      shape(found?.kind ?? row.kind),
      " ",
      h("strong", {}, found?.state ?? row.state),
      h("span", { class: "quiet" }, found ? ` (${found.verb})` : ""),
    ),
    h("p", { class: "because" }, found?.reason ?? row.reason),
    whatToDo(found ?? row, row.machine),
    found?.stopped ? h("p", { class: "notice" }, shape("needs a person"), " stopped: ", found.stopped) : null,
    facts(row, found),
    h(
      "div",
      { class: "pair" },
      h(
        "section",
        { "aria-labelledby": "timeline-title" },
        h("h2", { id: "timeline-title" }, "Timeline"),
        timeline(inOrder([...(found?.timeline ?? shortTimeline(row)), ...seen])),
      ),
      h(
        "div",
        {},
        pendingPatches(found),
        reasons ? [rules(reasons.rules), evidence(reasons.evidence)] : null,
        found ? null : h("p", { class: "none" }, progress(details, live, explained ? LEFT_OUT : REASONS, row.machine)),
      ),
    ),
  );
}

// What a report leaves to the command line.
const LEFT_OUT = "The same with its instance view, read afresh: ";
const REASONS = "This file has rules and evidence of machines that need a person or are late. Of this one: ";

function progress(details, live, rest, machine) {
  if (typeof details === "string") return `It could not be read afresh: ${details}`;
  return live ? "Reading the machine …" : [rest, command(`patcher why ${machine}`, `why ${machine}`)];
}

function whatToDo({ remedy, command: text }, machine) {
  if (!remedy && !text) return null;
  return h("p", { class: "remedy" }, remedy, " ", text ? command(text, machine) : null);
}

function facts(row, found) {
  const pairs = [
    ["Owner", row.owner || "none"],
    ["Image", row.image],
    ["Region", row.region],
    ["System", row.os],
    ["Compliance", row.late ? `late: ${row.late}` : row.compliance],
    [
      "Waiting patches",
      `${number(row.critical)} critical, ${number(row.security)} security, ${number(row.other)} other`,
    ],
    ["Expected", found?.expected || row.expected ? when(found?.expected ?? row.expected) : "–"],
    ["Id", h("code", {}, row.machine)],
  ];
  return h(
    "dl",
    { class: "facts-of" },
    pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** What the row knows of its own. */
function shortTimeline(row) {
  const moments = [
    [row.created, "created", row.image],
    [row.assessed, "assessed", ""],
    [row.installed, "installed", "the last installation that did not fail"],
    [row.expected, "installation expected", "by the forecast", true],
  ];
  return moments
    .filter(([at]) => at)
    .map(([at, what, detail, toCome]) => ({ at, what, detail, patches: [], to_come: Boolean(toCome) }));
}

function inOrder(moments) {
  return moments.sort((one, other) => new Date(one.at) - new Date(other.at));
}

function timeline(moments) {
  if (!moments.length) return none("Nothing is known.");
  return h(
    "ol",
    { class: "timeline" },
    moments.map((moment) =>
      h(
        "li",
        { class: moment.to_come ? "to-come" : null },
        time(moment.at),
        h(
          "div",
          {},
          h("p", {}, h("strong", {}, moment.what), moment.detail ? ` ${moment.detail}` : ""),
          patches(moment.patches, `${moment.at} ${moment.what}`),
        ),
      ),
    ),
  );
}

function patches(held, key) {
  if (!held.length) return null;
  const installed = held.filter((each) => each.state.toLowerCase() === "installed").length;
  return h(
    "details",
    { "data-key": `patches ${key}` },
    h("summary", { "data-key": `summary ${key}` }, `${number(held.length)} patches, ${number(installed)} installed`),
    h(
      "ul",
      { class: "patches" },
      held.map((each) =>
        h(
          "li",
          {},
          h("span", {}, each.patch, each.kb ? ` (${each.kb})` : ""),
          h("span", { class: "quiet" }, [each.version, each.classes.join(" "), each.state].filter(Boolean).join(" · ")),
        ),
      ),
    ),
  );
}

function pendingPatches(found) {
  if (!found) return null;
  return h(
    "section",
    { "aria-labelledby": "pending-title" },
    h("h2", { id: "pending-title" }, "Waiting patches"),
    found.pending.length
      ? h(
          "ul",
          { class: "patches" },
          found.pending.map((each) =>
            h(
              "li",
              {},
              h("span", {}, each.patch, each.kb ? ` (${each.kb})` : ""),
              h("span", { class: "quiet" }, [each.version, each.classes.join(" ")].filter(Boolean).join(" · ")),
            ),
          ),
        )
      : none("The newest assessment lists none."),
  );
}

function rules(steps) {
  return h(
    "section",
    { "aria-labelledby": "rules-title" },
    h("h2", { id: "rules-title" }, "Rules, in order"),
    h(
      "ol",
      { class: "rules" },
      steps.map(({ rule, speaks, says }) =>
        h(
          "li",
          { class: speaks ? "speaks" : null },
          h("span", { class: "rule-mark", "aria-hidden": "true" }, speaks ? "→" : says ? "·" : "✓"),
          h("span", {}, rule, h("span", { class: "unseen" }, speaks ? ": decides" : says ? "" : ": passed")),
          h("span", { class: "quiet" }, says ?? ""),
        ),
      ),
    ),
  );
}

function evidence(sources) {
  return h(
    "section",
    { "aria-labelledby": "evidence-title" },
    h("h2", { id: "evidence-title" }, "Evidence"),
    Object.entries(sources).map(([source, found]) => {
      const known = Object.entries(found).filter(([, value]) => value !== null && value !== "");
      return h(
        "details",
        { "data-key": `evidence ${source}` },
        h("summary", { "data-key": `summary ${source}` }, source),
        known.length
          ? h(
              "dl",
              { class: "evidence" },
              known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, fact(value)))),
            )
          : none("Nothing."),
      );
    }),
  );
}

function fact(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" && /^\d{4}-\d\d-\d\dT[\d:]+[+-]\d\d:\d\d$/.test(value) ? when(value) : String(value);
}
