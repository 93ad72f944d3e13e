"use strict";
// The document as rows, and which of them a filter shows in which order.

const KINDS = ["needs a person", "under way", "waiting", "current", "left alone"];

/** The rows of a document as objects, with what filters and sorting look at. */
function unpacked(found) {
  const { columns, texts, rows, kinds } = found;
  const ranks = new Map(Object.keys(kinds).map((state, rank) => [state, rank]));
  const shared = new Set(found.shared);
  return rows.map((values) => {
    const row = {};
    columns.forEach((name, place) => { row[name] = shared.has(name) ? texts[values[place]] : values[place]; });
    row.name = row.machine.slice(row.machine.lastIndexOf("/") + 1);
    row.kind = kinds[row.state];
    row.rank = ranks.get(row.state);
    row.order = natural(row.name);
    row.text = `${row.machine} ${row.owner} ${row.image} ${row.state} ${row.reason} ${row.region} ${row.os}`.toLowerCase();
    return row;
  });
}

/** So that web-10 follows web-9. */
function natural(name) {
  return name.replace(/\d+/g, (digits) => digits.padStart(8, "0"));
}

const COLUMN_OF = { state: "state", owner: "owner", image: "image", region: "region", os: "os", compliance: "compliance" };

/** What a filter's text asks of a row. Quotes keep a value with blanks together. */
function condition(text) {
  const tests = (text.toLowerCase().match(/(?:[^\s"]+:)?"[^"]*"|\S+/g) ?? []).map(test);
  return (row) => tests.every((each) => each(row));
}

function test(word) {
  const [, name, value] = word.replaceAll('"', "").match(/^(\w+):(.*)$/) ?? [];
  if (name === "is") return value === "late" ? (row) => row.compliance === "late" : (row) => row.kind.replaceAll(" ", "-") === value.replaceAll(" ", "-");
  if (name in COLUMN_OF) return (row) => row[COLUMN_OF[name]].toLowerCase() === value;
  const bare = word.replaceAll('"', "");
  return (row) => row.text.includes(bare);
}

/** The filter's word for a value of a column. */
function asked(name, value) {
  return /\s/.test(value) || value === "" ? `${name}:"${value}"` : `${name}:${value}`;
}

/** Rows in order; equal ones by name. `by`: a column, and whether the last comes first. */
function sorted(rows, { column, descending }) {
  const key = column === "machine" ? (row) => row.order : column === "state" ? (row) => row.rank : (row) => row[column] ?? "";
  const missing = (value) => value === "";
  return [...rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === b) return one.order < other.order ? -1 : one.order > other.order ? 1 : one.machine < other.machine ? -1 : 1;
    if (missing(a) || missing(b)) return missing(a) ? 1 : -1; // what is not known comes last, whatever the order
    return (a < b ? -1 : 1) * (descending ? -1 : 1);
  });
}
