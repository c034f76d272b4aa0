// What stands around the views: tabs, the feed's state, the theme, and which view is shown.

import { h, setText } from "./parts/dom.js";
import { tick } from "./parts/since.js";
import { clock, compact } from "./words/format.js";

const FEED_WORDS = {
  connecting: "Connecting",
  live: "Live",
  stale: "Not up to date",
  reconnecting: "Reconnecting",
  "signed-out": "Signed out",
};
const THEMES = ["auto", "light", "dark"];
const THEME = "ghub-theme";
const TICK_MS = 1000;

export class Shell {
  #current = null;
  #isSignedIn = false;
  #isPlanned = false;
  #known;

  /** `views` by their name in the address, the first one for all other addresses. */
  constructor(store, views) {
    this.store = store;
    this.views = views;
    this.main = document.getElementById("main");
    this.heading = h("h1", { tabindex: -1 });
    this.stale = h("p", { class: "notice warn", hidden: true });
    addEventListener("hashchange", () => this.#route(true));
    document.getElementById("skip").addEventListener("click", (event) => {
      event.preventDefault();
      this.main.focus();
    });
    this.#offerThemes();
    store.onChange(() => this.#plan());
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** Show the views; until now the page asked for a token, or knew nothing. */
  open() {
    if (this.#isSignedIn) return;
    this.#isSignedIn = true;
    this.#route(false);
  }

  /** Show something else instead of the views. */
  close(title, element) {
    this.#isSignedIn = false;
    this.#current = null;
    document.title = `${title} · GhubAi`;
    this.main.replaceChildren(element);
  }

  /** Tell how the feed stands. */
  showFeed({ state, error }) {
    document.getElementById("feed").dataset.state = state;
    setText(document.getElementById("feed-text"), FEED_WORDS[state]);
    this.#known = state === "live" ? undefined : (this.#known ?? (this.store.isKnown ? this.store.now() : undefined));
    this.stale.hidden = state !== "reconnecting" && state !== "stale";
    const why = error?.message ?? "The connection was closed.";
    setText(
      this.stale,
      this.#known ? `${why} What is shown is from ${clock(this.#known)}; trying again.` : `${why} Trying again.`,
    );
  }

  #route(isUsers) {
    if (!this.#isSignedIn) return;
    const name = location.hash.replace(/^#\//, "");
    const [first] = Object.keys(this.views);
    const shown = Object.hasOwn(this.views, name) ? name : first;
    const view = this.views[shown];
    if (view === this.#current) return;
    this.#current?.hide?.();
    this.#current = view;
    for (const link of document.querySelectorAll("#tabs a")) {
      const isCurrent = link.getAttribute("href") === `#/${shown}`;
      if (isCurrent) {
        link.setAttribute("aria-current", "page");
        link.scrollIntoView({ block: "nearest", inline: "nearest" });
      } else link.removeAttribute("aria-current");
    }
    setText(this.heading, view.title);
    document.title = `${view.title} · GhubAi`;
    this.main.replaceChildren(this.heading, this.stale);
    this.#draw();
    view.show?.();
    if (isUsers) {
      scrollTo(0, 0);
      this.heading.focus({ preventScroll: true });
    }
  }

  /** However many patches come, the page is drawn once a frame, and only what can be seen of it. */
  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#draw();
    });
  }

  #draw() {
    const { state } = this.store;
    this.#count(state);
    if (!this.#current || !this.store.isKnown) return;
    if (!this.#current.element.isConnected) this.main.append(this.#current.element);
    this.#current.update(state, this.store.now());
  }

  #count({ hub, totals, models }) {
    setText(document.getElementById("hub-id"), hub.id ? `${hub.id} · ${hub.version}` : "");
    const counts = { ...totals, models: Object.keys(models).length };
    for (const element of document.querySelectorAll("[data-count]")) {
      const number = counts[element.dataset.count];
      setText(element, number ? compact(number) : "");
    }
  }

  #tick() {
    if (document.hidden || !this.#current) return;
    tick(this.#current.element, this.store.now());
    this.#current.tick?.(this.store.state, this.store.now());
  }

  #offerThemes() {
    const button = document.getElementById("theme");
    const root = document.documentElement;
    const show = () => setText(button, `Theme: ${root.dataset.theme ?? "auto"}`);
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
      if (next === "auto") delete root.dataset.theme;
      else root.dataset.theme = next;
      try {
        localStorage.setItem(THEME, next);
      } catch {
        // It holds until the page is closed.
      }
      show();
    });
    show();
  }
}
