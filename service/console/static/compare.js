/** Two answers about the same visitor, before and after one more visit, side by side. */

import { outcomeMarks } from "./answer.js";
import { el, journey, page, stretch } from "./dom.js";
import { capital, percent, points } from "./words.js";

const ROWS = 10;

/** `added`: the pages of the visit between the two. */
export function compared(before, after, added, bundle) {
  const marks = outcomeMarks(bundle);
  return el("section", { class: "panel compared", "aria-labelledby": "compared-title" },
    el("h3", { id: "compared-title" }, "After one more visit"),
    el("div", { class: "between" }, el("span", { class: "quiet" }, "the visit that was added"), journey(added, marks)),
    el("ul", { class: "changes" }, changes(before, after).map((text) => el("li", {}, text))),
    el("div", { class: "columns" }, side("Before", before, marks), side("After", after, marks)),
    figures(before, after, marks));
}

/** What changed, in words. */
export function changes(before, after) {
  const [old, now] = [before.cluster, after.cluster];
  const found = [old.id === now.id
    ? `The same kind of visitor, ${now.name}: ${percent(old.probability)} before, ${percent(now.probability)} now.`
    : `Another kind of visitor: ${now.name} (${percent(now.probability)}) instead of ${old.name}.`];
  if (before.bundle_version !== after.bundle_version) {
    found.unshift("Another version of the model answered by now: what differs may be the model's doing.");
  }
  for (const [name, outcome] of Object.entries(after.outcomes)) {
    const was = before.outcomes[name];
    if (!was) continue;
    const apart = outcome.interval[0] > was.interval[1] || outcome.interval[1] < was.interval[0];
    const change = points(was.probability, outcome.probability);
    const sure = change === "no change" || apart ? "" : " (their intervals overlap: it may be chance)";
    found.push(`${capital(name)}: ${percent(was.probability)} before, ${percent(outcome.probability)} now, ${change}${sure}.`);
  }
  const same = before.next_session.join("\n") === after.next_session.join("\n");
  found.push(same ? "The predicted journey stays the same." : "Another journey is predicted.");
  return found;
}

function side(title, answer, marks) {
  return el("div", { class: "side" }, el("h4", {}, title),
    journey(answer.next_session, marks),
    el("p", { class: "quiet" }, answer.cluster.name,
      answer.return_within_7_days !== null && `; returns within 7 days: ${percent(answer.return_within_7_days)}`));
}

function figures(before, after, outcomes) {
  const rows = Object.keys(after.outcomes).filter((name) => before.outcomes[name]).map((name) =>
    row(capital(name), before.outcomes[name].probability, after.outcomes[name].probability));
  const [old, now] = [before, after].map((answer) => new Map(answer.pages.map((entry) => [entry.page, entry.probability])));
  const least = (answer) => (answer.pages.length ? answer.pages.at(-1).probability : 0);
  const [oldLeast, nowLeast] = [least(before), least(after)];
  // A page that one answer does not list is at most as likely there as the last one that it lists.
  const moved = [...new Set([...old.keys(), ...now.keys()])].filter((name) => !outcomes.has(name)).map((name) => {
    const [from, to] = [old.get(name) ?? null, now.get(name) ?? null];
    return { name, from, to, by: Math.abs((to ?? nowLeast) - (from ?? oldLeast)) };
  });
  moved.sort((a, b) => b.by - a.by || Math.max(b.to ?? 0, b.from ?? 0) - Math.max(a.to ?? 0, a.from ?? 0));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "probabilities before and after" },
    el("table", { class: "figures" },
      el("caption", { class: "quiet" }, "Probabilities if this visitor returns, ",
        el("span", { class: "swatch was" }), "before and ", el("span", { class: "swatch is" }), "after: outcomes, then the pages that changed most"),
      el("thead", {}, el("tr", {}, ["", "Before", "After", "Change"].map((title, i) =>
        (title ? el("th", { scope: "col", class: i ? "n" : "" }, title) : el("td"))))),
      el("tbody", {}, rows, moved.slice(0, ROWS).map(({ name, from, to }) => row(page(name), from, to, oldLeast, nowLeast)))));
}

function row(title, from, to, oldLeast = 0, nowLeast = 0) {
  const said = (value, least) => (value === null ? `≤\u00a0${percent(least)}` : percent(value));
  return el("tr", {},
    el("th", { scope: "row" }, el("div", { class: "titled" }, el("span", {}, title),
      el("span", { class: "pair", "aria-hidden": "true" },
        stretch(el("span", { class: "was" }), 0, from ?? oldLeast), stretch(el("span", { class: "is" }), 0, to ?? nowLeast)))),
    el("td", { class: "n" }, said(from, oldLeast)),
    el("td", { class: "n" }, said(to, nowLeast)),
    el("td", { class: "n" }, from === null || to === null ? "—" : points(from, to)));
}
