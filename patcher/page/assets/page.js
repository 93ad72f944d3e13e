"use strict";
// Brings it together: the document, the route, the filter, the keys. A refresh leaves filter, selection and scroll where they are.

const embedded = byId("document");
const state = {
  found: null,
  rows: [],
  known: new Map(),
  ordered: null,
  seen: new Map(),
  details: null,
  opened: null,
  scrolled: 0,
  overviewAt: 0,
};
const table = new MachineTable(byId("scroller"), {
  sortedBy: () => {
    state.ordered = null;
    drawTable();
  },
});

// -- the document

/** Shows another document, in steps between which the browser answers a person. */
async function take(found) {
  const rows = unpacked(found);
  await breath();
  const known = new Map(rows.map((row) => [row.machine, row]));
  const changed = state.rows.length ? rows.filter((row) => state.known.get(row.machine)?.state !== row.state) : [];
  await breath();
  tellTimesIn(found.zone);
  Object.assign(state, { found, rows, known, ordered: null });
  remember(changed, found.at);
  byId("overview").setAttribute("aria-busy", "true");
  try {
    drawHead();
    drawOverview();
    await breath();
    drawTable();
  } finally {
    byId("overview").removeAttribute("aria-busy");
  }
  if (state.opened) drawOpened();
  if (changed.length) tellChanges(changed);
}

/** Remembers what this page saw a machine become: Azure and the ledger keep none of its earlier states. */
function remember(changed, at) {
  for (const row of changed) {
    const moments = state.seen.get(row.machine) ?? [];
    moments.push({ at, what: row.state, detail: row.reason, patches: [], to_come: false });
    state.seen.set(row.machine, moments);
  }
}

let pressing = false; // a mouse button or finger is down
const PRESSES = { pointerdown: true, pointerup: false, pointercancel: false, blur: false };
for (const [event, down] of Object.entries(PRESSES))
  addEventListener(event, () => void (pressing = down));

/** Lets the browser answer a person. Drawing again under a press would lose the press: wait for its end. */
async function breath() {
  await nextTask();
  while (pressing) await new Promise((on) => setTimeout(on, 50));
}

function nextTask() {
  return new Promise((on) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      on();
    };
    port2.postMessage(0);
  });
}

function drawHead() {
  const { app, mode, window, sweep, at } = state.found;
  byId("app").textContent = app;
  document.title = `${app} · Image Patcher`;
  byId("facts").textContent = [
    `mode ${mode}`,
    `window ${window ?? "not set"}`,
    sweep.last ? `last sweep ${when(sweep.last)}` : "no sweep yet",
  ].join(" · ");
  byId("fresh").replaceChildren("as of ", h("time", { datetime: at }, embedded ? when(at) : timeOfDay(at)));
  drawNotices();
}

function drawNotices(problem) {
  const { alive, paused, pauses, held, left_alone, problems } = state.found ?? {
    alive: true,
    pauses: [],
    left_alone: [],
    problems: [],
  };
  const lines = [
    problem
      ? `The fleet could not be read: ${problem}.${state.found ? ` This is as of ${timeOfDay(state.found.at)}.` : ""}`
      : null,
    alive ? null : "No sweep has ended within the last hour: nothing is started. Run patcher doctor.",
    paused ? `Paused: ${paused}` : null,
    ...pauses.map((each) => [`Paused: ${each.what} `, command(each.end, each.end)]),
    held ? `A person holds ${machines(held)}.` : null,
    ...left_alone.map((each) => `Left alone: ${each}`),
    ...problems.map((each) => `Not read: ${each}`),
  ];
  show(
    byId("notices"),
    lines.filter(Boolean).map((each) => h("p", { class: "notice" }, shape("needs a person"), h("span", {}, each))),
  );
}

function drawOverview() {
  const { found, rows } = state;
  drawSummary(found, rows, filterBy);
  drawNeeds(found, rows, filterBy);
  drawFlight(found);
  drawRuns(found);
  drawOpenings(found);
  drawRollouts(found);
  drawOwners(found, filterBy);
  drawNewborn(found);
  markFilter();
}

function tellChanges(changed) {
  const some = changed
    .slice(0, 3)
    .map((row) => `${row.name} ${row.state}`)
    .join(", ");
  say(`${machines(changed.length)} changed: ${some}`);
}

// -- the filter and the table

function drawTable() {
  if (!state.found) return;
  state.ordered ??= sorted(state.rows, table.sort, state.found);
  const shown = state.ordered.filter(condition(byId("filter").value, state.found.texts));
  table.fill(shown);
  byId("found").textContent =
    shown.length === state.rows.length
      ? machines(shown.length)
      : `${number(shown.length)} of ${machines(state.rows.length)}`;
}

/** A press on a count adds its word to the filter; another press takes it away. */
function filterBy(word) {
  const field = byId("filter");
  const text = ` ${field.value} `;
  field.value = (text.includes(` ${word} `) ? text.replace(` ${word} `, " ") : `${text} ${word}`)
    .replace(/\s+/g, " ")
    .trim();
  filtered();
  byId("machines").scrollIntoView({ block: "start" });
}

function filtered() {
  drawTable();
  markFilter();
  byId("scroller").scrollTop = 0;
}

function markFilter() {
  const text = ` ${byId("filter").value} `;
  for (const each of document.querySelectorAll("[data-filter]"))
    each.setAttribute("aria-pressed", text.includes(` ${each.dataset.filter} `));
}

// -- the route

function route() {
  const machine = location.hash.startsWith("#/machine/") ? location.hash.slice("#/machine".length) : null;
  if (machine === state.opened) return;
  if (!state.opened) [state.overviewAt, state.scrolled] = [scrollY, byId("scroller").scrollTop];
  state.opened = machine;
  state.details = null;
  byId("overview").hidden = machine !== null;
  byId("machine").hidden = machine === null;
  byId("skip").hidden = machine !== null;
  if (machine === null) return comeBack();
  table.selected = machine;
  drawOpened();
  scrollTo(0, 0);
  byId("machine-name")?.focus();
  readDetails();
}

function comeBack() {
  byId("scroller").scrollTop = state.scrolled;
  scrollTo(0, state.overviewAt);
  table.fill(table.rows);
  if (table.place() >= 0) table.select(table.selected);
}

function drawOpened() {
  const row = state.known.get(state.opened);
  if (row)
    drawMachine(byId("machine"), row, {
      details: state.details,
      seen: state.seen.get(row.machine) ?? [],
      live: !embedded,
      explained: state.found.explained?.[row.machine],
    });
  else if (state.found)
    show(
      byId("machine"),
      h("p", { class: "back" }, h("a", { href: "#/" }, "All machines")),
      h("h1", { id: "machine-name", tabindex: "-1" }, "This machine is not in scope"),
      none(state.opened),
    );
}

async function readDetails() {
  const machine = state.opened;
  if (embedded || !state.known.has(machine)) return;
  const answer = await ask(`/machine?id=${encodeURIComponent(machine)}`);
  await breath();
  if (machine !== state.opened) return;
  state.details = answer.problem ?? answer;
  drawOpened();
}

// -- the server

async function ask(path) {
  try {
    const answer = await fetch(path, { cache: "no-store", credentials: "same-origin" });
    if (answer.headers.get("Content-Type")?.startsWith("application/json")) return await answer.json();
    return { problem: (await answer.text()).trim() };
  } catch {
    return { problem: "patcher page does not answer; start it again" };
  }
}

/** Asks for the next look, but not while the page is hidden. */
async function refresh() {
  if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
  const found = await ask("/data");
  await breath();
  try {
    if (found.problem) tellProblem(found.problem);
    else await take(found);
    await readDetails();
  } finally {
    setTimeout(refresh, 1000 * (state.found?.every ?? 10));
  }
}

function tellProblem(problem) {
  drawNotices(problem);
  say("The fleet could not be read");
}

// -- keys and theme

function pressed(event) {
  const field = byId("filter");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.key === "Escape") return leave(field);
  if (event.target.matches("input, select, textarea")) return;
  const inTable = byId("scroller").contains(event.target);
  const arrows = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, End: Infinity, Home: -Infinity };
  if (inTable && event.key in arrows) {
    event.preventDefault();
    return void table.move(arrows[event.key]);
  }
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    "/": () => {
      location.hash = "#/";
      field.focus();
      field.scrollIntoView({ block: "nearest" });
    },
    "?": () => byId("help").showModal(),
    Enter: () => (table.selected && !event.target.closest("a, button, summary") ? openMachine(table.selected) : false),
  };
  const action = actions[event.key];
  if (action && action() !== false) event.preventDefault();
}

function step(by) {
  if (state.opened === null) return void table.move(by);
  const place = table.place() + by;
  if (table.place() >= 0 && table.rows[place]) openMachine(table.rows[place].machine);
}

function openMachine(machine) {
  location.hash = address(machine);
}

function leave(field) {
  if (state.opened !== null) location.hash = "#/";
  else if (field.value) {
    field.value = "";
    filtered();
  } else document.activeElement.blur();
}

const THEMES = ["auto", "light", "dark"];

function useTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
}

function storedTheme(name) {
  try {
    if (name) localStorage.setItem("theme", name);
    return localStorage.getItem("theme") ?? "auto";
  } catch {
    return name ?? "auto"; // a file, or a browser that stores nothing
  }
}

function nextTheme() {
  const shown = document.documentElement.dataset.theme ?? "auto";
  const name = THEMES[(THEMES.indexOf(shown) + 1) % THEMES.length];
  storedTheme(name);
  useTheme(name);
}

useTheme(THEMES.includes(storedTheme()) ? storedTheme() : "auto");
byId("theme").addEventListener("click", nextTheme);
byId("keys").addEventListener("click", () => byId("help").showModal());
byId("filter").addEventListener("input", filtered);
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  table.move(1);
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("filter").focus();
});
document.addEventListener("keydown", pressed);
addEventListener("hashchange", route);
if (embedded) take(JSON.parse(embedded.textContent));
else refresh();
route();
