"use strict";
// The document as rows, and which of them a filter shows in which order. With ten thousand machines every key press
// passes over all of them: so texts are compared once per text, and rows by numbers.

const KINDS = ["needs a person", "under way", "waiting", "current", "left alone"];
const MOMENTS = ["created", "assessed", "installed", "expected"];

/** The rows of a document as objects. Of a shared text `row.at` holds the place, by which it is looked up fast. */
function unpacked(found) {
  const { columns, texts, rows, kinds } = found;
  const shared = new Set(found.shared);
  const groups = new Map(Object.entries(kinds));
  const names = columns.map((name) => [name, shared.has(name), MOMENTS.includes(name)]);
  const unpackedRows = rows.map((values) => {
    const row = { at: {} };
    for (let place = 0; place < values.length; place++) {
      const [name, isShared, isMoment] = names[place];
      const value = values[place];
      row[name] = isShared ? texts[value] : isMoment && value !== null ? 1000 * value : value;
      if (isShared) row.at[name] = value;
    }
    row.machine = row.group + row.name;
    row.kind = groups.get(row.state);
    return row;
  });
  return numbered(unpackedRows);
}

/** Gives each row its place by name, so that web-10 follows web-9. */
function numbered(rows) {
  const keys = new Map(rows.map((row) => [row, `${natural(row.name)} ${row.machine}`]));
  const ordered = [...rows].sort((one, other) => (keys.get(one) < keys.get(other) ? -1 : 1));
  ordered.forEach((row, place) => {
    row.order = place;
  });
  return ordered;
}

function natural(name) {
  return name.replace(/\d+/g, (digits) => digits.padStart(8, "0"));
}

const EXACT = ["state", "owner", "image", "region", "os", "compliance"];
const SEARCHED = [...EXACT, "reason"];

/** What a filter's text asks of a row. Quotes keep a value with blanks together. */
function condition(text, texts) {
  const lower = texts.map((each) => each.toLowerCase());
  const tests = (text.toLowerCase().match(/(?:[^\s"]+:)?"[^"]*"|\S+/g) ?? []).map((word) =>
    test(word.replaceAll('"', ""), lower),
  );
  return (row) => tests.every((each) => each(row));
}

function test(word, texts) {
  const [, name, value] = word.match(/^(\w+):(.*)$/) ?? [];
  if (name === "is")
    return value === "late"
      ? (row) => row.compliance === "late"
      : (row) => row.kind.replaceAll(" ", "-") === value.replaceAll(" ", "-");
  if (EXACT.includes(name)) {
    const meant = texts.map((each) => each === value);
    return (row) => meant[row.at[name]];
  }
  const holds = texts.map((each) => each.includes(word));
  return (row) => row.machine.includes(word) || SEARCHED.some((column) => holds[row.at[column]]);
}

/** The filter's word for a value of a column. */
function asked(name, value) {
  return /\s/.test(value) || value === "" ? `${name}:"${value}"` : `${name}:${value}`;
}

/** The rows by a column, equal ones by name. What is not known comes last, whatever the order. */
function sorted(rows, { column, descending }, { kinds, texts }) {
  const key = keyOf(column, kinds, texts);
  const keys = new Float64Array(rows.length);
  for (const row of rows) keys[row.order] = key(row);
  const sign = descending ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [keys[one.order], keys[other.order]];
    if (a === b || (a !== a && b !== b)) return one.order - other.order;
    return a !== a ? 1 : b !== b ? -1 : sign * (a - b);
  });
}

/** A number for a row; NaN where it has no value. */
function keyOf(column, kinds, texts) {
  if (column === "machine") return (row) => row.order;
  if (column === "state") {
    const ranks = new Map(Object.keys(kinds).map((state, rank) => [state, rank])); // what needs a person comes first
    return (row) => ranks.get(row.state);
  }
  if (["owner", "image", "reason", "compliance"].includes(column)) {
    const ranks = new Map(texts.toSorted().map((text, rank) => [text, rank]));
    const numbers = texts.map((text) => (text === "" ? NaN : ranks.get(text)));
    return (row) => numbers[row.at[column]];
  }
  return (row) => row[column] ?? NaN;
}
