// Small charts as inline SVG: bars stacked on each other, areas and lines over time, each with a table that says the same.

import { clock } from "../words/format.js";
import { h, setText, svg } from "./dom.js";
import { niceTop, runsOf, stacked } from "./scales.js";

const HEIGHT = 150;
const EDGE = { left: 46, right: 6, top: 10, bottom: 20 };
const WIDTH_BEFORE_LAYOUT = 480;

let made = 0;

/**
 * `series`: `{ label, class }`, as many as each point has values. `kind`: `bars`, `area` or `lines`. `format(value)`
 * gives a value with its unit, `axis(value)` one for the axis. `label(at)` names a point, `tick(at)` one on the axis.
 */
export class Chart {
  #points = [];
  #width = WIDTH_BEFORE_LAYOUT;

  constructor({ title, series, kind, format, axis = format, label = clock, tick = label, first = "Time" }) {
    Object.assign(this, { title, series, kind, format, axis, label, tick, first });
    made += 1;
    const id = `chart-${made}`;
    this.pictureTitle = svg("title", { id: `${id}-title` }, title);
    this.description = svg("desc", { id: `${id}-desc` });
    this.drawing = svg("g");
    this.cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    this.picture = svg(
      "svg",
      { role: "img", "aria-labelledby": `${id}-title ${id}-desc`, height: HEIGHT, class: "chart" },
      this.pictureTitle,
      this.description,
      this.drawing,
      this.cursor,
    );
    this.readout = h("p", { class: "readout", "aria-hidden": "true" });
    this.body = h("tbody");
    this.details = h(
      "details",
      {},
      h("summary", {}, "As a table"),
      h("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": `${title} as a table` }, this.#table()),
    );
    this.details.addEventListener("toggle", () => this.#fillTable());
    this.element = h(
      "figure",
      { class: "card chart-card" },
      h("figcaption", {}, h("h3", {}, title), this.readout),
      this.picture,
      this.details,
    );
    this.picture.addEventListener("pointermove", (event) => this.#point(event));
    this.picture.addEventListener("pointerleave", () => this.#read());
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect.width)).observe(this.element);
  }

  /** Draw these points: `{ at, values }`, a value of null where there is none. */
  update(points, summary) {
    this.#points = points;
    setText(this.description, summary);
    this.#draw();
    this.#fillTable();
  }

  #resize(width) {
    if (width < 60 || Math.abs(width - this.#width) < 1) return;
    this.#width = width;
    this.#draw();
  }

  #x(place) {
    const room = this.#width - EDGE.left - EDGE.right;
    return EDGE.left + ((place + 0.5) * room) / Math.max(1, this.#points.length);
  }

  #draw() {
    const points = this.#points;
    const tops = points.map(({ values }) =>
      this.kind === "bars" ? stacked(values) : Math.max(0, ...values.map((value) => value ?? 0)),
    );
    const top = niceTop(Math.max(0, ...tops));
    const y = (value) => EDGE.top + (1 - value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
    this.picture.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT}`);
    this.picture.setAttribute("width", this.#width);
    if (!points.some(({ values }) => values.some(Boolean))) {
      const middle = { class: "nothing", x: this.#width / 2, y: HEIGHT / 2, "text-anchor": "middle" };
      this.drawing.replaceChildren(svg("text", middle, "Nothing yet"));
      this.readout.replaceChildren();
      return;
    }
    const shapes =
      this.kind === "bars" ? this.#bars(y) : this.series.flatMap((one, place) => this.#curve(one, place, y));
    this.drawing.replaceChildren(...this.#grid(top, y), ...this.#times(), ...shapes);
    this.#read();
  }

  #grid(top, y) {
    return [0, top / 2, top].flatMap((value) => [
      svg("line", { class: "rule", x1: EDGE.left, x2: this.#width - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "axis", x: EDGE.left - 6, y: y(value) + 3.5, "text-anchor": "end" }, this.axis(value)),
    ]);
  }

  #times() {
    const last = this.#points.length - 1;
    if (last < 1) return [];
    const parts = this.#width < 340 ? 2 : 4;
    const places = Array.from({ length: parts + 1 }, (_, part) => Math.round((part * last) / parts));
    return places.map((place) => {
      const anchor = place === 0 ? "start" : place === last ? "end" : "middle";
      return svg(
        "text",
        { class: "axis", x: this.#x(place), y: HEIGHT - 5, "text-anchor": anchor },
        this.tick(this.#points[place].at),
      );
    });
  }

  #bars(y) {
    const wide = Math.max(1, ((this.#width - EDGE.left - EDGE.right) / Math.max(1, this.#points.length)) * 0.72);
    return this.#points
      .flatMap(({ values }, place) => {
        let under = 0;
        return values.map((value, which) => {
          if (!value) return null;
          const bottom = y(under);
          under += value;
          const high = Math.max(1, bottom - y(under));
          return svg("rect", {
            class: this.series[which].class,
            x: this.#x(place) - wide / 2,
            y: bottom - high,
            width: wide,
            height: high,
            rx: Math.min(1.5, wide / 2),
          });
        });
      })
      .filter(Boolean);
  }

  #curve({ class: name }, which, y) {
    const runs = runsOf(this.#points.map(({ values }) => values[which]));
    return runs.flatMap((run) => {
      if (run.length === 1)
        return [svg("circle", { class: name, cx: this.#x(run[0].place), cy: y(run[0].value), r: 2 })];
      const line = run
        .map(({ place, value }, n) => `${n ? "L" : "M"}${this.#x(place).toFixed(1)} ${y(value).toFixed(1)}`)
        .join("");
      const [from, to] = [run[0].place, run[run.length - 1].place];
      const under =
        this.kind === "area" &&
        svg("path", { class: `under ${name}`, d: `${line}L${this.#x(to)} ${y(0)}L${this.#x(from)} ${y(0)}Z` });
      return [under, svg("path", { class: `line ${name}`, d: line })].filter(Boolean);
    });
  }

  #point(event) {
    const room = this.#width - EDGE.left - EDGE.right;
    const place = Math.floor(((event.offsetX - EDGE.left) / room) * this.#points.length);
    if (place < 0 || place >= this.#points.length) return this.#read();
    this.cursor.setAttribute("x1", this.#x(place));
    this.cursor.setAttribute("x2", this.#x(place));
    this.cursor.setAttribute("visibility", "visible");
    this.#read(this.#points[place]);
  }

  /** What is told beside the title: of the point under the pointer, else of the last one. */
  #read(point) {
    if (!point) this.cursor.setAttribute("visibility", "hidden");
    const of = point ?? this.#points[this.#points.length - 1];
    if (!of) return;
    const values = this.series.map((one, place) =>
      h("span", { class: `key ${one.class}` }, `${one.label} ${this.#value(of.values[place])}`),
    );
    this.readout.replaceChildren(...(point ? [h("span", {}, this.label(of.at))] : []), ...values);
  }

  #value(value) {
    return value === null || value === undefined ? "–" : this.format(value);
  }

  #table() {
    const heads = [this.first, ...this.series.map((one) => one.label)];
    return h(
      "table",
      { class: "plain" },
      h("caption", { class: "unseen" }, this.title),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      this.body,
    );
  }

  #fillTable() {
    if (!this.details.open) return;
    const said = this.#points.filter(({ values }) => values.some(Boolean));
    this.body.replaceChildren(
      ...said.reverse().map(({ at, values }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, this.label(at)),
          values.map((value) => h("td", {}, this.#value(value))),
        ),
      ),
    );
  }
}
