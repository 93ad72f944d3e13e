"use strict";
// The table of machines. Only the rows in sight are in the document, so that ten thousand cost no more than thirty.

const AROUND = 8; // rows kept above and below those in sight

const COLUMNS = [
  {
    name: "machine",
    title: "Machine",
    cell: (row) => h("a", { href: address(row.machine), tabindex: "-1" }, row.name),
  },
  { name: "state", title: "State", cell: (row) => [shape(row.kind), " ", row.state] },
  { name: "reason", title: "Why", cell: (row) => row.reason },
  { name: "owner", title: "Owner", cell: (row) => row.owner || "–" },
  { name: "image", title: "Image", cell: (row) => row.image },
  { name: "critical", title: "Critical", cell: (row) => number(row.critical), number: true },
  { name: "security", title: "Security", cell: (row) => number(row.security), number: true },
  { name: "compliance", title: "Compliance", cell: (row) => (row.late ? `late: ${row.late}` : row.compliance) },
  { name: "expected", title: "Expected", cell: (row) => [when(row.expected), row.canary ? " canary" : ""] },
];

const address = (machine) => `#/machine${machine}`;

class MachineTable {
  /** `opened`: receives the id of a machine that a person opens. */
  constructor(scroller, { sortedBy }) {
    this.scroller = scroller;
    this.sortedBy = sortedBy;
    this.sort = { column: "state", descending: false };
    this.rows = [];
    this.selected = null;
    this.elements = new Map();
    this.above = spacer();
    this.below = spacer();
    this.body = h("tbody", {}, this.above, this.below);
    this.nothing = h("p", { class: "nothing", hidden: true }, "No machine.");
    this.heads = COLUMNS.map((column) => this._head(column));
    this.table = h(
      "table",
      { class: "machines" },
      h("caption", { class: "unseen" }, "Machines: press a heading to sort, j and k to move, Enter to open"),
      h("thead", {}, h("tr", { "aria-rowindex": 1 }, this.heads)),
      this.body,
    );
    scroller.append(this.table, this.nothing);
    scroller.addEventListener("scroll", () => this._draw(), { passive: true });
    this._measure();
    new ResizeObserver(() => {
      this._measure();
      this._draw();
    }).observe(scroller);
    this.body.addEventListener("click", (event) => {
      const line = event.target.closest("tr[data-machine]");
      if (line && !event.target.closest("a") && !String(getSelection())) location.hash = address(line.dataset.machine);
    });
  }

  /** These rows in this order. The selected machine stays where it was seen, as long as it is among them. */
  fill(rows) {
    const place = this.place();
    const sight = place * this.rowHeight - this.scroller.scrollTop;
    const focused = this.body.contains(document.activeElement);
    this.rows = rows;
    this.nothing.hidden = rows.length > 0;
    this.table.setAttribute("aria-rowcount", rows.length + 1);
    this.scroller.style.setProperty("--rows", rows.length);
    this._leaveRoom(0, 0);
    if (place >= 0 && this.place() >= 0 && sight >= 0 && sight < this.scroller.clientHeight) {
      this.scroller.scrollTop = this.place() * this.rowHeight - sight;
    }
    this._draw();
    if (focused && !this.body.contains(document.activeElement)) this.link()?.focus({ preventScroll: true });
  }

  /** Makes as much room above and below as the rows that are not drawn would take. */
  _leaveRoom(first, last) {
    this.above.firstChild.style.height = `${first * this.rowHeight}px`;
    this.below.firstChild.style.height = `${(this.rows.length - last) * this.rowHeight}px`;
  }

  _measure() {
    this.rowHeight = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row"));
  }

  /** The place of the selected machine; -1 if it is not shown. */
  place() {
    return this.rows.findIndex((row) => row.machine === this.selected);
  }

  /** Selects the row so many places on, brings it into sight, and gives it the focus. Returns its machine. */
  move(step) {
    if (!this.rows.length) return null;
    const place = this.place();
    const next =
      place < 0 ? (step > 0 ? 0 : this.rows.length - 1) : Math.min(Math.max(place + step, 0), this.rows.length - 1);
    this.select(this.rows[next].machine);
    return this.selected;
  }

  select(machine) {
    this.selected = machine;
    const [top, height, head] = [this.place() * this.rowHeight, this.scroller.clientHeight, this.heads[0].offsetHeight];
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + this.rowHeight + head > this.scroller.scrollTop + height)
      this.scroller.scrollTop = top + this.rowHeight + head - height;
    this._draw();
    this.focus();
  }

  /** Gives the selected row the focus, and brings the table into sight. */
  focus() {
    const link = this.link();
    link?.focus({ preventScroll: true });
    link?.closest("tr").scrollIntoView({ block: "nearest" });
  }

  /** The selected machine's link, while its row is in the document. */
  link() {
    return this.elements.get(this.selected)?.line.querySelector("a");
  }

  _head(column) {
    const press = () => {
      this.sort = {
        column: column.name,
        descending: this.sort.column === column.name ? !this.sort.descending : Boolean(column.number),
      };
      this._mark();
      this.sortedBy();
    };
    const button = h(
      "button",
      { type: "button", on: { click: press } },
      column.title,
      h("span", { class: "order", "aria-hidden": "true" }),
    );
    return h(
      "th",
      {
        scope: "col",
        class: `${column.name}${column.number ? " number" : ""}`,
        "aria-sort": column.name === this.sort.column ? "ascending" : null,
      },
      button,
    );
  }

  _mark() {
    COLUMNS.forEach((column, place) => {
      if (column.name === this.sort.column)
        this.heads[place].setAttribute("aria-sort", this.sort.descending ? "descending" : "ascending");
      else this.heads[place].removeAttribute("aria-sort");
    });
  }

  /** Brings the rows in sight into the document, and moves none that is there already: so the focus stays. */
  _draw() {
    const height = this.rowHeight;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / height) - AROUND);
    const last = Math.min(
      this.rows.length,
      Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / height) + AROUND,
    );
    const focused = document.activeElement;
    const wanted = this.rows.slice(first, last);
    const names = new Set(wanted.map((row) => row.machine));
    for (const [machine, { line }] of this.elements) {
      if (!names.has(machine)) {
        line.remove();
        this.elements.delete(machine);
      }
    }
    let next = this.above.nextSibling;
    wanted.forEach((row, place) => {
      const line = this._line(row);
      line.setAttribute("aria-rowindex", first + place + 2);
      line.classList.toggle("selected", row.machine === this.selected);
      if (line === next) next = line.nextSibling;
      else this.body.insertBefore(line, next);
    });
    this._leaveRoom(first, last);
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  _line(row) {
    const known = this.elements.get(row.machine);
    if (known?.row === row) return known.line;
    const cells = COLUMNS.map((column, place) =>
      h(
        place ? "td" : "th",
        {
          scope: place ? null : "row",
          class: `${column.name}${column.number ? " number" : ""}`,
          title: ["machine", "reason"].includes(column.name) ? row[column.name] : null,
        },
        column.cell(row),
      ),
    );
    const line = known?.line ?? h("tr", { "data-machine": row.machine });
    const had = line.contains(document.activeElement);
    line.replaceChildren(...cells);
    if (had) line.querySelector("a").focus({ preventScroll: true });
    this.elements.set(row.machine, { line, row });
    return line;
  }
}

function spacer() {
  return h("tr", { "aria-hidden": "true", class: "space" }, h("td", { colspan: COLUMNS.length }));
}
