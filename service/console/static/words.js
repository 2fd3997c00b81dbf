/** Numbers and notes in plain words. */

export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "<\u00a00.1\u00a0%";
  if (value < 100 && value > 99.9) return ">\u00a099.9\u00a0%";
  const digits = value > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)}\u00a0%`; // kept together by a no-break space
}

export function points(from, to) {
  const change = 100 * (to - from);
  const size = Math.abs(change) < 9.95 ? Math.abs(change).toFixed(1) : Math.abs(change).toFixed(0);
  if (Number(size) === 0) return "no change";
  return `${change > 0 ? "+" : "−"}${size}\u00a0points`;
}

export const milliseconds = (ms) => (ms < 9.95 ? `${ms.toFixed(1)}\u00a0ms` : `${ms.toFixed(0)}\u00a0ms`);

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const day = (iso) => {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : date.toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });
};

/** What one should know about an answer: `{ text, pages }`, `pages` being those that the text is about. */
export function notes(answer, bundle) {
  const found = [];
  const note = (text, pages = []) => found.push({ text, pages });
  if (answer.bundle_version !== bundle.version) {
    note("Another version of the model answered than the one described below: its kinds of visitors are not shown.");
  }
  if (answer.fallback === "no_history") {
    note("There are no earlier visits to go by: this is what first visits looked like in the training log.");
  } else if (answer.fallback === "engine_down") {
    note("No language model answered in time. A simpler model that is always at hand (Markov chains) answered instead.");
  }
  if (answer.unknown_pages.length) {
    note(`${count(answer.unknown_pages.length, "page is", "pages are")} not known to the model and ${answer.unknown_pages.length === 1 ? "was" : "were"} read as “some other page”:`, answer.unknown_pages);
  }
  if (answer.truncated.sessions_dropped) {
    note(`The history is longer than the model reads: the oldest ${count(answer.truncated.sessions_dropped, "visit")} did not count.`);
  }
  const raw = Object.entries(answer.outcomes).filter(([, outcome]) => !outcome.calibrated).map(([name]) => name);
  if (raw.length && answer.fallback !== "no_history") {
    note(`Not calibrated: ${raw.join(" and ")}. The model's own probability is shown; it was not checked against what visitors then did.`);
  }
  if (answer.unfinished_paths >= 0.05) {
    note(`${percent(answer.unfinished_paths)} of the sampled visits were still going on after ${bundle.limits.max_steps} pages, where they are cut.`);
  }
  if (bundle.returns && answer.return_within_7_days === null && answer.fallback !== "no_history") {
    note("How likely a return within 7 days is, cannot be said for these times of visit.");
  }
  return found;
}

/** One sentence for those who hear the page. */
export function summary(answer) {
  const outcomes = Object.entries(answer.outcomes).map(([name, outcome]) => `${name} ${percent(outcome.probability)}`);
  const pages = answer.next_session.length ? count(answer.next_session.length, "page") : "no page";
  return `If this visitor returns: a visit of ${pages}${outcomes.length ? `, ${outcomes.join(", ")}` : ""}.`;
}

/** A JSON pointer into a request, as a person would say it. */
export function place(pointer) {
  const [, list, index, field, inner] = pointer.split("/");
  if (list === "sessions" && index !== undefined) {
    const visit = `visit ${Number(index) + 1}`;
    if (field === "pages") return inner === undefined ? `${visit}, its pages` : `${visit}, page ${Number(inner) + 1}`;
    return field === "started_at" ? `${visit}, its time` : visit;
  }
  return pointer.replace(/^\//, "").replaceAll("/", ", ");
}
