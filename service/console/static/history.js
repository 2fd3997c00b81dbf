/** The editor of a history: a card per visit, with its time and its pages. */

import { pageField } from "./complete.js";
import { el, fill, page } from "./dom.js";

const MINUTE = 60_000;

export class History {
  /** `changed()` is called whenever somebody edits. */
  constructor(root, limits, changed) {
    this.root = root;
    this.limits = limits;
    this.changed = changed;
    this.visits = [];
    this.unknown = new Set();
    this.shows = [];
  }

  /** `visits`: each `{ started: Date, pages: [string] }`, oldest first. */
  set(visits) {
    this.visits = visits.map((visit) => ({ started: visit.started, pages: [...visit.pages], added: visit.added ?? false }));
    this.unknown = new Set();
    this.draw();
  }

  copy() {
    return this.visits.map((visit) => ({ ...visit, pages: [...visit.pages] }));
  }

  /** A visit of this moment, or a minute after the newest one, whichever is later. */
  nextStart() {
    const now = new Date(Math.floor(Date.now() / MINUTE) * MINUTE);
    const newest = this.visits.at(-1)?.started;
    return newest && newest >= now ? new Date(newest.getTime() + MINUTE) : now;
  }

  append(pages, { added = false } = {}) {
    this.visits.push({ started: this.nextStart(), pages: [...pages], added });
    this.draw();
    return this.root.querySelector("li.visit:last-of-type input[role=combobox]");
  }

  /** What `POST /predict` takes; visits without a page are not sent. */
  sessions() {
    return this.visits.filter((visit) => visit.pages.length)
      .map((visit) => ({ started_at: visit.started.toISOString(), pages: visit.pages }));
  }

  markUnknown(pages) {
    if (pages.length === this.unknown.size && pages.every((name) => this.unknown.has(name))) return;
    this.unknown.clear();
    for (const name of pages) this.unknown.add(name);
    for (const show of this.shows) show(); // the fields stay: somebody may be typing
  }

  draw() {
    this.shows = [];
    if (!this.visits.length) {
      fill(this.root, el("p", { class: "empty" }, "No visits yet: somebody who comes for the first time. Add a visit, or start from an example."));
      return;
    }
    fill(this.root, el("ol", { class: "visits" }, this.visits.map((visit, i) => this.card(visit, i))));
  }

  card(visit, i) {
    const name = `visit ${i + 1}`;
    const time = el("input", {
      type: "datetime-local", step: 60, required: true, value: local(visit.started), "aria-label": `time of ${name}`,
      onchange: (event) => {
        const chosen = new Date(event.target.value);
        if (Number.isNaN(chosen.getTime())) return;
        visit.started = chosen;
        this.visits.sort((a, b) => a.started - b.started);
        this.draw();
        this.changed();
      },
    });
    const remove = el("button", {
      type: "button", class: "plain", "aria-label": `remove ${name}`, title: "remove this visit",
      onclick: () => { this.visits.splice(i, 1); this.draw(); this.changed(); },
    }, "✕");
    return el("li", { class: visit.added ? "visit added" : "visit" },
      el("div", { class: "visit-head" },
        el("span", { class: "visit-name" }, `Visit ${i + 1}`, visit.added && el("span", { class: "tag" }, "added")),
        time, remove),
      pagesEditor(visit.pages, { name, limits: this.limits, unknown: this.unknown, changed: this.changed, shows: this.shows }));
  }
}

/** Elements that show `pages`, which they change in place, and take more. `shows` gets what shows them anew. */
export function pagesEditor(pages, { name, limits, unknown = new Set(), changed, shows = [] }) {
  const chips = el("ol", { class: "chips", "aria-label": `pages of ${name}` });
  const redraw = () => fill(chips, pages.map(chip));
  const chip = (text, at) => el("li", {}, page(text, unknown.has(text) ? "unknown" : ""),
    unknown.has(text) && el("span", { class: "hidden-text" }, "not known to the model"),
    el("button", {
      type: "button", class: "plain", "aria-label": `remove ${text}`, title: "remove this page",
      onclick: () => { pages.splice(at, 1); redraw(); changed(); },
    }, "✕"));
  const field = pageField({
    label: `add a page to ${name}`,
    longest: limits.page_length,
    choose: (names) => { pages.push(...names.slice(0, limits.session_pages - pages.length)); redraw(); changed(); },
  });
  redraw();
  shows.push(redraw);
  return [chips, field];
}

/** As `datetime-local` wants it: the reader's own time of day. */
function local(date) {
  const two = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}`;
}
