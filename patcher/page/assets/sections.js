"use strict";
// The parts of the overview, each from the document alone.

const FIRST = 5; // of a long list; the rest is counted

/** The sentence, the chart, and the counts of every state. */
function drawSummary(found, rows, filterBy) {
  const count = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  for (const row of rows) count[row.kind] += 1;
  byId("headline").replaceChildren(...headline(rows.length, count));
  show(
    byId("shape"),
    rows.length
      ? [chart(rows.length, count), legend(found, count, filterBy)]
      : h(
          "p",
          { class: "hint" },
          "PATCH_SCOPE and your own rights decide what is seen. ",
          command("patcher doctor", "doctor"),
        ),
  );
}

function headline(total, count) {
  if (!total) return ["No machine is in scope."];
  const people = count["needs a person"];
  const rest = people
    ? [h("strong", {}, number(people)), ` ${people === 1 ? "needs" : "need"} a person.`]
    : ["None needs a person."];
  return [
    h("strong", {}, number(count.current)),
    ` of ${machines(total)} ${count.current === 1 ? "is" : "are"} current. `,
    ...rest,
  ];
}

function chart(total, count) {
  const parts = KINDS.filter((kind) => count[kind]);
  const words = parts.map((kind) => `${number(count[kind])} ${kind}`).join(", ");
  const drawn = bars(
    parts.map((kind) => [kind, count[kind]]),
    total,
  );
  return svg(
    "svg",
    { class: "chart", role: "img", "aria-label": `${machines(total)}: ${words}` },
    svg("defs", {}, hatch()),
    drawn,
  );
}

const LEAST = 1; // percent of a bar's length that shows there is something

/** Bars side by side. */
function bars(parts, total) {
  let left = 0;
  return parts
    .filter(([, count]) => count)
    .map(([kind, count]) => {
      const width = Math.max((100 * count) / total, LEAST);
      const bar = svg("rect", {
        x: `${left}%`,
        width: `${width}%`,
        height: "100%",
        class: `bar ${kind.replaceAll(" ", "-")}`,
      });
      left += width;
      return bar;
    });
}

function hatch() {
  return svg(
    "pattern",
    { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 6, height: 6, class: "hatch-back" }),
    svg("rect", { width: 3, height: 6, class: "hatch-line" }),
  );
}

function legend(found, count, filterBy) {
  return h(
    "ul",
    { class: "legend" },
    KINDS.map((kind) =>
      h(
        "li",
        {},
        filterButton(
          asked("is", kind.replaceAll(" ", "-")),
          filterBy,
          "kind",
          shape(kind),
          h("span", { class: "count" }, number(count[kind])),
          h("span", {}, kind),
        ),
        h(
          "ul",
          { class: "states" },
          found.states
            .filter(({ state }) => found.kinds[state] === kind)
            .map(({ state, machines: held }) =>
              h(
                "li",
                {},
                filterButton(
                  asked("state", state),
                  filterBy,
                  "state",
                  h("span", {}, state),
                  h("span", { class: "count" }, number(held)),
                ),
              ),
            ),
        ),
      ),
    ),
  );
}

function filterButton(word, filterBy, style, ...children) {
  return h(
    "button",
    {
      type: "button",
      class: `pick ${style}`,
      "data-key": word,
      "data-filter": word,
      on: { click: () => filterBy(word) },
    },
    children,
  );
}

/** Machines by state and reason, with the remedy and a command to copy; and the open breakers. */
function drawNeeds(found, rows, filterBy) {
  const groups = Map.groupBy(
    rows.filter((row) => row.kind === "needs a person"),
    (row) => row.state,
  );
  const states = [...groups].sort(([, one], [, other]) => other.length - one.length);
  const parts = [...found.breakers.map(openBreaker), ...states.map(([state, held]) => need(state, held, filterBy))];
  show(byId("needs").lastElementChild, parts.length ? h("ul", { class: "needs" }, parts) : none("Nothing."));
}

function openBreaker(breaker) {
  return h(
    "li",
    { class: "need" },
    h("p", { class: "what" }, shape("needs a person"), h("span", { class: "name" }, "breaker open")),
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, breaker.image), h("span", { class: "quiet" }, boundary(breaker.boundary))),
      h("p", { class: "why" }, breaker.reason),
      h("p", { class: "remedy" }, "Close it when the cause is gone. ", command(breaker.close, breaker.row)),
    ),
  );
}

function need(state, held, filterBy) {
  const reasons = [...Map.groupBy(held, (row) => `${row.reason}\n${row.remedy}`).values()].sort(
    (one, other) => other.length - one.length,
  );
  const more = reasons.slice(FIRST).reduce((sum, each) => sum + each.length, 0);
  return h(
    "li",
    { class: "need" },
    h(
      "p",
      { class: "what" },
      shape("needs a person"),
      filterButton(asked("state", state), filterBy, "name", state),
      h("span", { class: "quiet" }, machines(held.length)),
    ),
    h(
      "div",
      {},
      reasons.slice(0, FIRST).map((same) => cause(same, state)),
      more ? h("p", { class: "quiet" }, `and ${machines(more)} for other reasons`) : null,
    ),
  );
}

function cause(same, state) {
  const [first] = same;
  const names = same
    .slice(0, 3)
    .flatMap((row, place) => [
      place ? ", " : "",
      h("a", { href: address(row.machine), "data-key": `need ${row.machine}` }, row.name),
    ]);
  return h(
    "div",
    { class: "cause" },
    h("p", {}, names, same.length > 3 ? h("span", { class: "quiet" }, ` and ${number(same.length - 3)} more`) : null),
    h("p", { class: "why" }, first.reason),
    first.remedy || first.command
      ? h(
          "p",
          { class: "remedy" },
          first.remedy,
          " ",
          first.command ? command(first.command, `${state} ${first.machine}`) : null,
        )
      : null,
  );
}

/** Operations, the longest first. */
function drawFlight(found) {
  const rows = found.in_flight.map((each) => [
    h(
      "a",
      { href: address(each.machine), "data-key": `flight ${each.machine}` },
      each.machine.slice(each.machine.lastIndexOf("/") + 1),
    ),
    each.kind,
    each.phase,
    age(each.since, found.at),
  ]);
  show(
    byId("flight").lastElementChild,
    listed("Operations in flight", ["Machine", "Operation", "Phase", "For"], rows, { numbers: [3], most: 12 }),
  );
}

/** What people ordered and did not end yet; no section where there is none. */
function drawRuns(found) {
  byId("runs").hidden = !found.runs.length;
  const rows = found.runs.map((each) => [
    each.run,
    each.kind ?? each.problem,
    each.reason,
    `${each.percent} %`,
    ...["succeeded", "failed", "in-flight", "to-do"].map((outcome) => number(each.outcomes[outcome])),
    each.until ? time(each.until) : "",
    command(`patcher run show ${each.run}`, `run ${each.run}`),
  ]);
  const head = ["Run", "Kind", "Reason", "Done", "Succeeded", "Failed", "In flight", "To do", "Until", "More"];
  show(byId("runs").lastElementChild, listed("Runs that did not end", head, rows, { numbers: [3, 4, 5, 6, 7] }));
}

function drawOpenings(found) {
  const rows = found.openings.map((each) => [
    span(each),
    number(each.canaries),
    number(each.others),
    number(each.left),
  ]);
  show(
    byId("openings").lastElementChild,
    found.no_forecast ? none(found.no_forecast) : null,
    listed(`Openings, ${found.zone}`, ["Opens", "Canaries", "Others", "Later"], rows, {
      numbers: [1, 2, 3],
      empty: "None in which a machine goes.",
    }),
  );
}

function span({ opens, closes, window }) {
  return window === "any" ? "any time" : [time(opens), h("span", { class: "quiet" }, ` to ${when(closes).slice(-5)}`)];
}

/** Each rollout with its canary and its rings. */
function drawRollouts(found) {
  const parts = found.rollouts.map(rollout);
  show(byId("rollouts").lastElementChild, parts.length ? h("ul", { class: "rollouts" }, parts) : none("None."));
}

function rollout(each) {
  const { succeeded, wanted } = each.canaries;
  return h(
    "li",
    { class: "rollout" },
    h(
      "div",
      {},
      h("h3", {}, each.image),
      h("p", { class: "quiet" }, `opened ${when(each.opened)}`),
      h("p", { class: "quiet" }, boundary(each.boundary)),
      ending(each),
    ),
    h(
      "ol",
      { class: "rings" },
      wanted
        ? ring(
            "canary",
            {
              succeeded: Math.min(succeeded, wanted),
              failed: 0,
              in_flight: 0,
              waiting: Math.max(wanted - succeeded, 0),
            },
            succeeded >= wanted ? "proved" : "",
          )
        : null,
      each.watched_until
        ? h(
            "li",
            { class: "bake" },
            h("span", { class: "ring-name" }, "bake"),
            h("span", { class: "quiet" }, `watched until ${when(each.watched_until)}`),
          )
        : null,
      each.rings.map((tally) => ring(`ring ${tally.ring}`, tally, "")),
    ),
  );
}

function ring(name, tally, word) {
  const done = tally.succeeded + tally.failed;
  const total = done + tally.in_flight + tally.waiting;
  const more = [
    [tally.failed, "failed"],
    [tally.in_flight, "in flight"],
  ]
    .filter(([count]) => count)
    .map(([count, what]) => `${number(count)} ${what}`);
  const drawn = bars(
    [
      ["current", tally.succeeded],
      ["needs a person", tally.failed],
      ["under way", tally.in_flight],
    ],
    total,
  );
  return h(
    "li",
    {},
    h("span", { class: "ring-name" }, name),
    svg("svg", { class: "progress", "aria-hidden": "true" }, drawn),
    h("span", { class: "ring-count" }, `${number(done)} of ${number(total)}`),
    h("span", { class: "quiet" }, [word, ...more].filter(Boolean).join(", ")),
  );
}

function ending(each) {
  if (each.breaker_open) return h("p", { class: "stopped" }, shape("needs a person"), " stopped: its breaker is open");
  if (each.ended_by_hand) return h("p", {}, "ended by a person");
  return h(
    "p",
    {},
    each.last_turn ? ["last turn ", time(each.last_turn)] : ["ends not before ", time(each.ends_not_before)],
  );
}

const boundary = (text) => ` ${text ? `in ${text}` : "in the whole fleet"}`;

function drawOwners(found, filterBy) {
  const limits = Object.entries(found.sla_days)
    .map(([name, days]) => `${name} ${days} days`)
    .join(", ");
  const rows = found.owners.map((each) => [
    filterButton(asked("owner", each.owner), filterBy, "name", each.owner || "no owner"),
    number(each.machines),
    number(each.within),
    late(each.late),
    late(each.late_critical),
    late(each.late_security),
    number(each.blocked),
    number(each.unknown),
  ]);
  const heads = ["Owner", "Machines", "Within", "Late", "Late critical", "Late security", "Blocked", "Unknown"];
  show(
    byId("owners").lastElementChild,
    h("p", { class: "hint" }, `Limits: ${limits}.`),
    listed("Compliance by owner", heads, rows, { numbers: [1, 2, 3, 4, 5, 6, 7], most: 12 }),
  );
}

function late(count) {
  return count ? h("strong", {}, shape("needs a person"), " ", number(count)) : "0";
}

function drawNewborn(found) {
  const rows = found.newborn.map((each) => [
    each.image,
    number(each.machines),
    average(each.critical),
    average(each.security),
    average(each.other),
  ]);
  show(
    byId("newborn").lastElementChild,
    h(
      "p",
      { class: "hint" },
      "What the first assessment found, on average. Rebuild an image whose new machines lack much.",
    ),
    listed("Patch debt by image version", ["Image", "Machines", "Critical", "Security", "Other"], rows, {
      numbers: [1, 2, 3, 4],
      most: 12,
      empty: "No first assessment is known.",
    }),
  );
}

/** A table. A long one shows its first rows, and says how many follow. */
function listed(caption, heads, rows, { numbers = [], most = Infinity, empty = "None." } = {}) {
  if (!rows.length) return none(empty);
  const style = (place) => (numbers.includes(place) ? "number" : null);
  return h(
    "div",
    {
      class: "wide",
      tabindex: heads.length > 5 ? "0" : null,
      role: heads.length > 5 ? "region" : null,
      "aria-label": heads.length > 5 ? caption : null,
      "data-key": caption,
    },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head, place) => h("th", { scope: "col", class: style(place) }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.slice(0, most).map((row) =>
          h(
            "tr",
            {},
            row.map((cell, place) =>
              h(place ? "td" : "th", { scope: place ? null : "row", class: style(place) }, cell),
            ),
          ),
        ),
      ),
    ),
    rows.length > most ? h("p", { class: "quiet" }, `and ${number(rows.length - most)} more`) : null,
  );
}

const none = (text) => h("p", { class: "none" }, text);
