// A node's GPUs in a cell of a table, brought up to date in place: they change every other second.

import { memory, whole } from "../words/format.js";
import { Bar } from "./badges.js";
import { h, setText } from "./dom.js";

class Gpu {
  constructor() {
    this.name = h("bdi", { class: "gpu-name" });
    this.extra = h("span", { class: "gpu-extra" });
    this.use = new Bar("Use");
    this.memory = new Bar("Memory");
    this.element = h(
      "div",
      { class: "gpu" },
      h("div", { class: "gpu-head" }, this.name, this.extra),
      this.use.element,
      this.memory.element,
    );
  }

  show({
    name,
    utilization_pct: use,
    memory_used_mib: used,
    memory_total_mib: total,
    temperature_c: warm,
    power_w: power,
  }) {
    setText(this.name, name ?? "GPU");
    const extra = [
      warm === undefined ? null : `${whole(Math.round(warm))} °C`,
      power === undefined ? null : `${whole(Math.round(power))} W`,
    ];
    setText(this.extra, extra.filter(Boolean).join(" · "));
    this.use.set((use ?? 0) / 100, use === undefined ? "unknown" : `${Math.round(use)} %`);
    this.memory.set(total ? (used ?? 0) / total : 0, total === undefined ? "unknown" : memory(used, total));
  }
}

/** The `make` of a column whose value is a list of GPUs. */
export function gpuCell(cell) {
  const gpus = [];
  const none = h("span", { class: "muted" }, "no GPU seen");
  cell.append(none);
  return (told = []) => {
    none.hidden = told.length > 0;
    while (gpus.length > told.length) gpus.pop().element.remove();
    while (gpus.length < told.length) {
      const gpu = new Gpu();
      gpus.push(gpu);
      cell.append(gpu.element);
    }
    told.forEach((one, place) => {
      gpus[place].show(one);
    });
  };
}
