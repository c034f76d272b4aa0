// A table of keyed rows: at each render only cells whose value changed are touched, and rows that stay keep their place
// in the document, so focus, selection and scrolling survive.

import { h, setText } from "./dom.js";

const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/**
 * A column is `{ id, label, of(item, key), make(cell), sort(item, key), kind }`. `of` tells its value; what `make` gives
 * back is called with `(value, item, key)` when that is another one. Without `make` the value is the text. `kind` is
 * `num`, `actions` or nothing; columns without `sort` can't be sorted by, those with `isMostFirst` begin with the most.
 */
export class KeyedTable {
  #rows = new Map();
  #entries = [];
  #headers = new Map();

  constructor({ caption, columns, sortBy, empty, class: name = "" }) {
    this.columns = columns;
    this.sortBy = sortBy;
    this.isDescending = this.#isMostFirst(sortBy);
    this.accepts = () => true;
    this.body = h("tbody", { role: "rowgroup" });
    const head = h(
      "tr",
      { role: "row" },
      columns.map((column) => this.#header(column)),
    );
    this.table = h(
      "table",
      { class: `grid ${name}`, role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, head),
      this.body,
    );
    this.empty = h("div", { class: "empty", hidden: true }, empty);
    this.noMatch = h("p", { class: "empty", hidden: true }, "Nothing matches the filter.");
    this.scroller = h("div", { class: "scroller" }, this.table);
    this.element = h("div", { class: "table" }, this.scroller, this.empty, this.noMatch);
    this.#showSort();
  }

  /** Show these `[key, item]` pairs. */
  render(entries) {
    this.#entries = entries;
    this.refresh();
  }

  /** Sort, filter and draw anew what was last rendered. */
  refresh() {
    const shown = this.#sorted(this.#entries.filter(([key, item]) => this.accepts(item, key)));
    const keys = new Set(shown.map(([key]) => key));
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    let next = this.body.firstChild;
    for (const [key, item] of shown) {
      const row = this.#row(key);
      this.#fill(row, item, key);
      if (row.element === next) next = next.nextSibling;
      else this.body.insertBefore(row.element, next);
    }
    this.scroller.hidden = shown.length === 0;
    this.empty.hidden = this.#entries.length > 0;
    this.noMatch.hidden = shown.length > 0 || this.#entries.length === 0;
  }

  /** Sort by a column; in its own order, unless told. */
  sort(id, isDescending = this.#isMostFirst(id)) {
    this.sortBy = id;
    this.isDescending = isDescending;
    this.#showSort();
    this.refresh();
  }

  #isMostFirst(id) {
    return this.columns.find((column) => column.id === id)?.isMostFirst ?? false;
  }

  #row(key) {
    let row = this.#rows.get(key);
    if (row) return row;
    const cells = this.columns.map((column, place) => {
      const [tag, role] = place === 0 ? ["th", "rowheader"] : ["td", "cell"];
      const cell = h(tag, { role, class: column.kind, scope: place === 0 && "row", data: { label: column.label } });
      return { cell, draw: column.make?.(cell) ?? ((value) => setText(cell, value)), value: undefined, isDrawn: false };
    });
    row = {
      cells,
      element: h(
        "tr",
        { role: "row" },
        cells.map((one) => one.cell),
      ),
    };
    row.element.dataset.key = key;
    this.#rows.set(key, row);
    return row;
  }

  #fill(row, item, key) {
    row.cells.forEach((one, place) => {
      const value = this.columns[place].of(item, key);
      if (one.isDrawn && Object.is(value, one.value)) return;
      const hadFocus = one.cell.contains(document.activeElement);
      one.draw(value, item, key);
      one.value = value;
      one.isDrawn = true;
      if (hadFocus && !one.cell.contains(document.activeElement)) one.cell.querySelector("button, a")?.focus();
    });
  }

  #sorted(entries) {
    const by = this.columns.find((column) => column.id === this.sortBy)?.sort;
    if (!by) return entries;
    const sign = this.isDescending ? -1 : 1;
    const compared = entries.map((entry) => [by(entry[1], entry[0]), entry]);
    return compared
      .sort(([a, left], [b, right]) => sign * compare(a, b) || COLLATOR.compare(left[0], right[0]))
      .map(([, entry]) => entry);
  }

  #header({ id, label, sort, kind, isMostFirst = false }) {
    const header = h("th", { role: "columnheader", scope: "col", class: kind });
    if (sort) {
      header.append(
        h(
          "button",
          { type: "button", on: { click: () => this.sort(id, this.sortBy === id ? !this.isDescending : isMostFirst) } },
          label,
        ),
      );
      this.#headers.set(id, header);
    } else header.append(h("span", { class: kind === "actions" && "unseen" }, label));
    return header;
  }

  #showSort() {
    for (const [id, header] of this.#headers) {
      if (id === this.sortBy) header.setAttribute("aria-sort", this.isDescending ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    }
  }
}

/** How a column draws a value as elements. */
export function drawn(show) {
  return (cell) => (value, item, key) =>
    cell.replaceChildren(...[show(value, item, key)].flat().filter((one) => one !== null));
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return COLLATOR.compare(String(a ?? ""), String(b ?? ""));
}
