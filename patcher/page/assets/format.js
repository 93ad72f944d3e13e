"use strict";
// Times, ages and counts as people read them. A moment is what Date takes: a text of ISO 8601, or milliseconds.

let zone = "UTC";
let clock = clockOf(zone);

/** Times are shown by the clock of the app's window. */
function tellTimesIn(name) {
  if (name === zone) return;
  clock = clockOf(name);
  zone = name;
}

function clockOf(name) {
  const parts = {
    weekday: "short",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  };
  return new Intl.DateTimeFormat("en-GB", { ...parts, hourCycle: "h23", timeZone: name });
}

/** "Tue 2026-12-01 22:00" */
function when(moment) {
  if (!moment) return "–";
  const { weekday, year, month, day, hour, minute } = partsOf(moment);
  return `${weekday} ${year}-${month}-${day} ${hour}:${minute}`;
}

/** "22:00:07" */
function timeOfDay(moment) {
  const { hour, minute, second } = partsOf(moment);
  return `${hour}:${minute}:${second}`;
}

function partsOf(moment) {
  return Object.fromEntries(clock.formatToParts(new Date(moment)).map(({ type, value }) => [type, value]));
}

function time(moment) {
  return moment ? h("time", { datetime: new Date(moment).toISOString() }, when(moment)) : "–";
}

/** How long ago, in the largest unit that says something. */
function age(moment, now) {
  const seconds = Math.max(0, Math.floor((new Date(now) - new Date(moment)) / 1000));
  for (const [unit, size] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${seconds} s`;
}

const counts = new Intl.NumberFormat("en-GB");
const averages = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const number = (count) => counts.format(count);
const average = (value) => averages.format(value);
const machines = (count) => `${number(count)} ${count === 1 ? "machine" : "machines"}`;
