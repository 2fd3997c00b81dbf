/** What stands behind the answers: the bundle, and the kinds of visitors in it. */

import { hasKey, report } from "./api.js";
import { fact } from "./answer.js";
import { el, page, stretch } from "./dom.js";
import { count, day, percent } from "./words.js";

/** `failed` gets what went wrong while the report was fetched. */
export function about(bundle, failed) {
  const { training, outcomes } = bundle;
  const raw = Object.entries(outcomes).filter(([, outcome]) => !outcome.calibrated).map(([name]) => name);
  const calibrated = !Object.keys(outcomes).length ? "no outcomes" : raw.length ? `not ${raw.join(", not ")}` : "yes";
  return [
    el("dl", { class: "facts" },
      fact("Version", el("code", { title: bundle.version }, bundle.version.slice(0, 12))),
      fact("Method", training.method),
      fact("Learnt from", `${count(training.users, "visitor")}, ${day(training.window_start)} to ${day(training.window_end)}`),
      fact("Pages known", bundle.vocabulary_pages.toLocaleString("en")),
      fact("Followed for", `at most ${bundle.limits.max_steps} pages`),
      fact("Outcomes calibrated", calibrated),
      fact("Knows who returns within 7 days", bundle.returns ? "yes" : "no: the log was too short")),
    bundle.report && reported(failed),
    el("h3", {}, "Kinds of visitors"),
    el("ul", { class: "kinds" }, [...bundle.clusters].sort((a, b) => b.share - a.share).map((cluster) =>
      el("li", { class: `kind-${cluster.id % 8}` },
        el("div", { class: "kind-head" }, el("strong", {}, cluster.name), el("span", {}, percent(cluster.share))),
        el("div", { class: "bar", "aria-hidden": "true" }, stretch(el("span"), 0, cluster.share)),
        el("p", { class: "pages" }, cluster.typical_pages.slice(0, 6).map((name) => [page(name), " "]).flat())))),
  ];
}

/** A link cannot carry a key: with one, the report is fetched and saved as a file. */
function reported(failed) {
  if (!hasKey()) return el("p", {}, el("a", { href: "report", target: "_blank", rel: "noopener noreferrer" }, "The report on this model"));
  const save = async () => {
    try {
      const address = URL.createObjectURL(await report());
      el("a", { href: address, download: "report.html" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    } catch (failure) {
      failed(failure);
    }
  };
  return el("p", {}, el("button", { type: "button", onclick: save }, "Save the report on this model"));
}
