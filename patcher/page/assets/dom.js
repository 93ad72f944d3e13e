"use strict";
// Elements from values. Text goes in as text alone: nothing that Azure names is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on` in `attributes` holds listeners; false, null and undefined leave an attribute out. */
function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const byId = (id) => document.getElementById(id);

/** Puts new content in place of the old, if it differs. What has the focus keeps it: it is found again by `data-key`. */
function show(place, ...children) {
  const drawn = children.flat(Infinity).filter(Boolean);
  const shown = [...place.childNodes];
  if (drawn.length === shown.length && drawn.every((each, at) => each.isEqualNode(shown[at]))) return;
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  place.replaceChildren(...drawn);
  for (const each of place.querySelectorAll("details")) each.open = open.has(each.dataset.key);
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Each group of states has a shape of its own, beside its word. */
const SHAPES = {
  "needs a person": [["path", { d: "M7 1.5 13 12.5H1Z", class: "solid" }]],
  "under way": [
    ["circle", { cx: 7, cy: 7, r: 5.25, class: "line" }],
    ["path", { d: "M7 1.75a5.25 5.25 0 0 1 0 10.5Z", class: "solid" }],
  ],
  waiting: [["circle", { cx: 7, cy: 7, r: 5.25, class: "line" }]],
  current: [
    ["circle", { cx: 7, cy: 7, r: 6, class: "solid" }],
    ["path", { d: "M4.2 7.2 6.2 9.2 9.9 5.2", class: "tick" }],
  ],
  "left alone": [["path", { d: "M2 7H12", class: "line" }]],
};

const drawnShapes = new Map(
  Object.entries(SHAPES).map(([kind, parts]) => [
    kind,
    svg(
      "svg",
      { class: `shape ${kind.replaceAll(" ", "-")}`, viewBox: "0 0 14 14", "aria-hidden": "true" },
      parts.map(([name, attributes]) => svg(name, attributes)),
    ),
  ]),
);

const shape = (kind) => drawnShapes.get(kind).cloneNode(true);

/** A command, and a button that copies it. */
function command(text, key) {
  const button = h(
    "button",
    { type: "button", class: "copy", "data-key": `copy ${key}`, "aria-label": `Copy ${text}` },
    "Copy",
  );
  button.addEventListener("click", async () => {
    const copied = await copy(text);
    button.textContent = copied ? "Copied" : "Select it";
    say(copied ? "Copied" : "It could not be copied; select it");
  });
  return h("span", { class: "command" }, h("code", {}, text), button);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or a file that the browser does not trust
  }
}

/** Tells a screen reader. */
function say(text) {
  byId("live").textContent = text;
}
