/** One answer of `POST /predict`, drawn. */

import { el, journey, page, stretch } from "./dom.js";
import { capital, count, milliseconds, notes, percent } from "./words.js";

const BARS = 12;
const STAGES = [["embed", "reading the visits"], ["select", "choosing the kind"], ["generate", "sampling paths"], ["estimate", "estimating"]];

/** The class of pages that are outcomes, by name. */
export const outcomeMarks = (bundle) =>
  new Map(Object.values(bundle.outcomes).flatMap((outcome) => outcome.pages.map((name) => [name, "outcome"])));

/** The whole answer, as elements. */
export function drawn(answer, bundle) {
  return [
    noted(answer, bundle),
    el("section", { class: "panel", "aria-label": "predicted journey" },
      el("h3", {}, "Predicted journey"),
      journey(answer.next_session, outcomeMarks(bundle))),
    el("div", { class: "columns" }, outcomes(answer), kind(answer, bundle)),
    bars(answer, bundle),
    timings(answer),
  ];
}

function noted(answer, bundle) {
  const found = notes(answer, bundle);
  return found.length > 0 && el("ul", { class: "notes", "aria-label": "notes on this answer" },
    found.map(({ text, pages }) => el("li", {}, text, pages.map((name) => [" ", page(name, "unknown")]).flat())));
}

/** The end of a scale on which intervals of rare outcomes can still be seen. */
const scale = (highest) => [0.05, 0.1, 0.25, 0.5].find((end) => highest <= end) ?? 1;

function outcomes(answer) {
  const all = Object.entries(answer.outcomes);
  const end = scale(Math.max(0, ...all.map(([, outcome]) => outcome.interval[1])));
  const again = answer.return_within_7_days;
  return el("section", { class: "panel", "aria-label": "outcomes" },
    el("h3", {}, "Outcomes, ", el("span", { class: "condition" }, "if this visitor returns")),
    all.length === 0 && el("p", { class: "quiet" }, "The bundle knows no outcomes."),
    all.map(([name, outcome]) => el("div", { class: "outcome-row" },
      el("div", { class: "outcome-head" },
        el("span", { class: "outcome-name" }, capital(name)),
        el("strong", { class: "figure" }, percent(outcome.probability)),
        !outcome.calibrated && el("span", { class: "tag" }, "not calibrated")),
      interval(name, outcome, end),
      el("p", { class: "quiet" }, `95 % interval: ${percent(outcome.interval[0])} to ${percent(outcome.interval[1])}`,
        outcome.within_7_days !== null && [el("br"), "returns within 7 days and does: ", el("b", {}, percent(outcome.within_7_days))]))),
    again !== null && el("p", { class: "again" }, "Returns at all within 7 days: ", el("b", {}, percent(again))));
}

function interval(name, outcome, end) {
  const [low, high] = outcome.interval;
  const described = `${name}: ${percent(outcome.probability)}, between ${percent(low)} and ${percent(high)}`;
  return el("div", { class: "interval" },
    el("div", { class: "track", role: "img", "aria-label": described },
      stretch(el("span", { class: "band" }), low / end, high / end),
      stretch(el("span", { class: "dot" }), outcome.probability / end, outcome.probability / end)),
    el("div", { class: "ends quiet", "aria-hidden": "true" }, el("span", {}, "0"), el("span", {}, percent(end))));
}

function kind(answer, bundle) {
  const cluster = bundle.version === answer.bundle_version && bundle.clusters.find((known) => known.id === answer.cluster.id);
  const guessed = answer.fallback === "no_history";
  const rates = Object.entries((cluster || null)?.outcome_rates ?? {}).map(([name, rate]) => `${name} ${percent(rate)}`).join(", ");
  return el("section", { class: "panel", "aria-label": "kind of visitor" },
    el("h3", {}, "Kind of visitor"),
    el("p", { class: `kind kind-${answer.cluster.id % 8}` }, el("span", { class: "swatch" }), el("strong", {}, answer.cluster.name)),
    el("p", {}, guessed ? "the most common kind; nothing is known yet of this visitor" : ["probability ", el("b", {}, percent(answer.cluster.probability))]),
    cluster && el("dl", {},
      fact("Share of visitors", percent(cluster.share)),
      cluster.median_pages !== null && fact("Median visit", count(Math.round(cluster.median_pages), "page")),
      rates && fact("Visits with", rates),
      cluster.behaviours.length > 0 && fact("Such a visitor", cluster.behaviours.join(", "))),
    cluster && cluster.typical_pages.length > 0 && [
      el("h4", {}, "Typical pages"),
      el("p", { class: "pages" }, cluster.typical_pages.map((name) => [page(name), " "]).flat())]);
}

export const fact = (term, value) => el("div", {}, el("dt", {}, term), el("dd", {}, value));

/** Without the outcomes' pages: what is to be said of them stands above, calibrated, and would differ. */
function bars(answer, bundle) {
  const outcomes = outcomeMarks(bundle);
  const shown = answer.pages.filter((entry) => !outcomes.has(entry.page)).slice(0, BARS);
  return el("section", { class: "panel", "aria-label": "page probabilities" },
    el("h3", {}, "Pages on the next visit, ", el("span", { class: "condition" }, "if this visitor returns")),
    shown.length === 0 && el("p", { class: "quiet" }, "No page is likely enough to be listed."),
    el("ol", { class: "bars" }, shown.map(({ page: name, probability, seen_before: seen }) => el("li", {},
      el("span", { class: "bar-name" }, page(name), seen && el("span", { class: "tag" }, "seen before")),
      el("span", { class: "bar", "aria-hidden": "true" }, stretch(el("span", { class: seen ? "seen" : "" }), 0, probability)),
      el("span", { class: "bar-value" }, percent(probability))))),
    shown.length > 0 && el("p", { class: "quiet legend" },
      el("span", { class: "swatch seen" }), "seen on an earlier visit", el("span", { class: "swatch fresh" }), "new to this visitor"));
}

function timings(answer) {
  const { total, ...took } = answer.took_ms;
  const parts = STAGES.map(([name, words]) => [name, words, took[name]]);
  parts.push(["rest", "all else", Math.max(total - parts.reduce((sum, [, , ms]) => sum + ms, 0), 0)]);
  let from = 0;
  const read = answer.embedding;
  return el("section", { class: "panel small", "aria-label": "timings" },
    el("h3", {}, `Took ${milliseconds(total)}`),
    el("div", { class: "stack", "aria-hidden": "true" }, parts.map(([name, , ms]) => {
      const to = from + (total > 0 ? ms / total : 0);
      const part = stretch(el("span", { class: `stage-${name}` }), from, to);
      from = to;
      return part;
    })),
    el("ul", { class: "stages" }, parts.map(([name, words, ms]) =>
      el("li", {}, el("span", { class: `swatch stage-${name}` }), `${words} ${milliseconds(ms)}`))),
    read.sessions > 0 && el("p", { class: "quiet" }, `${count(read.sessions, "visit")} read, ${read.cached} of them from the cache`));
}
