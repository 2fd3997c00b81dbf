/** The console: what it holds, and what its buttons do. It uses the service's public interface alone. */

import { about } from "./about.js";
import { drawn } from "./answer.js";
import { Failure, bundle as fetchBundle, predict, ready, useKey } from "./api.js";
import { compared } from "./compare.js";
import { el, fill } from "./dom.js";
import { History, pagesEditor } from "./history.js";
import { dated, parse } from "./paste.js";
import { keyForm, trouble } from "./trouble.js";
import { summary } from "./words.js";

const at = (id) => document.getElementById(id);
const SAMPLES = [16, 64, 256];
const TOP_PAGES = 50; // more than are drawn: a page that falls out of the first few can still be compared
const LOOK_AGAIN = 5_000; // ms between two looks at a service that is not ready

let bundle;
let history;
/** What is shown: the answer, the one before it if a visit was added, that visit, and the `edits` that it was asked at. */
let shown = null;
/** Counts the changes of what would be asked: an answer to an older question is never shown as one to the newest. */
let edits = 0;
/** The question under way. Whose answer comes when this is another one's, or nobody's, is too late. */
let asking = null;
let watching = null;
let looks = 0;

async function start(asked = false) {
  at("work").hidden = true;
  at("gate").hidden = false;
  fill(at("gate"), el("p", { class: "panel loading", role: "status" }, "Loading …"));
  try {
    bundle = await fetchBundle();
  } catch (failure) {
    if (failure.kind === "key") askForKey(failure, asked);
    else fill(at("gate"), trouble(failure, () => start(asked)));
    return;
  }
  at("gate").hidden = true;
  fill(at("gate"));
  at("work").hidden = false;
  open();
  watch();
}

function askForKey(failure, asked) {
  at("work").hidden = true;
  at("gate").hidden = false;
  fill(at("gate"), keyForm(failure, asked, (secret) => { useKey(secret); start(true); }));
  at("key").focus();
}

/** Everything that depends on the bundle; what was being edited stays. */
function open() {
  const kept = history?.copy();
  history = new History(at("history"), bundle.limits, () => { at("example").value = ""; edited(); });
  fill(at("example"),
    el("option", { value: "" }, "an example …"),
    bundle.examples.map((example, i) =>
      el("option", { value: i }, `like “${bundle.clusters.find(({ id }) => id === example.cluster).name}”`)),
    el("option", { value: "new" }, "a new visitor, no visits yet"));
  const samples = at("samples").value;
  fill(at("samples"), SAMPLES.map((n, i) => el("option", { value: n, selected: String(n) === samples }, i ? `${n}: slower, more exact` : `${n}: as calibrated`)));
  fill(at("about-shown"), about(bundle, (failure) => fill(at("shown"), trouble(failure))));
  if (kept) history.set(kept);
  else if (bundle.examples.length) choose("0");
  else history.set([]);
  if (!shown) empty();
}

/** Says whether engines answer, until they do. */
async function watch() {
  clearTimeout(watching);
  const own = (looks += 1);
  let up;
  try {
    up = await ready();
  } catch {
    up = null;
  }
  if (own !== looks) return;
  const words = up ? "ready" : up === null ? "does not answer" : "engines are not ready: a simpler model answers";
  fill(at("served"), el("span", { class: up ? "light on" : "light" }), words, el("br"), "model ", el("code", { title: bundle.version }, bundle.version.slice(0, 12)));
  if (!up) watching = setTimeout(watch, LOOK_AGAIN);
}

function choose(value) {
  if (value === "") return;
  at("example").value = value;
  history.set(value === "new" ? [] : dated(bundle.examples[Number(value)].sessions));
  edited();
}

/** What would be asked has changed: a question under way is about what was before, and is withdrawn. */
function edited() {
  edits += 1;
  const withdrawn = asking !== null;
  asking?.abort();
  asking = null;
  standing(withdrawn && shown === null ? "The visits changed before there was an answer. Choose Predict to ask about them as they are now." : "");
}

/** Says what the answer that is shown is worth now. `words`: what is said where there is none. */
function standing(words = "") {
  const older = shown !== null && shown.asked !== edits;
  at("answer").setAttribute("aria-busy", String(asking !== null));
  at("answer").classList.toggle("older", older);
  at("predict").disabled = asking !== null;
  at("stale").hidden = !older;
  // One more visit cannot be compared with an answer about other visits.
  for (const button of at("further")?.querySelectorAll("button[data-ready]") ?? []) {
    button.disabled = older || asking !== null || button.dataset.ready !== "true";
  }
  if (older && asking) words = "Predicting … Until then the answer below stays: it is about the visits before the change.";
  else if (older) words = "The visits or options have changed: the answer below is about how they were before.";
  else if (asking) words = "Predicting …";
  else if (shown) words = summary(shown.answer);
  if (at("said").textContent !== words) at("said").textContent = words;
}

function empty() {
  fill(at("shown"), el("p", { class: "empty" }, "Edit the visits, then choose Predict. The answer comes here."));
}

/** Ask about the visits as they stand. `before`: the answer to compare with, `added`: the visit in between. */
async function ask(before = null, added = null) {
  asking?.abort();
  const own = (asking = new AbortController());
  const asked = edits;
  const sessions = history.sessions();
  const newest = Math.max(Date.now(), ...sessions.map((session) => Date.parse(session.started_at)));
  const options = { samples: Number(at("samples").value), top_pages: TOP_PAGES, as_of: new Date(newest).toISOString() };
  if (at("decode").value) options.decode = at("decode").value;
  standing();
  try {
    const answer = await predict({ sessions, options }, own.signal);
    if (asking !== own) return; // an abort may come too late to stop an answer
    if (bundle.version !== answer.bundle_version) await renew();
    if (asking !== own) return;
    asking = null;
    shown = { answer, before, added, asked };
    draw();
  } catch (failure) {
    if (asking !== own) return;
    asking = null;
    shown = null;
    standing();
    if (!(failure instanceof Failure)) console.error(failure);
    if (failure.kind === "key") askForKey(failure, true);
    else fill(at("shown"), trouble(failure, () => (asked === edits ? ask(before, added) : ask())));
    reveal();
    if (failure.kind === "down") watch();
  }
}

/** On a narrow screen the answer is out of sight, below the visits. */
function reveal() {
  if (matchMedia("(max-width: 60rem)").matches) at("answer").scrollIntoView();
}

function draw() {
  const { answer, before, added } = shown;
  history.markUnknown(answer.unknown_pages);
  at("about").open = false;
  fill(at("shown"), before && compared(before, answer, added, bundle), drawn(answer, bundle), further());
  standing();
  if (before) at("answer").scrollIntoView(); // it is above the buttons that add a visit
  reveal();
  if (answer.fallback === "engine_down") watch();
}

/** Another bundle is served by now: what is shown about it must be its own. */
async function renew() {
  try {
    bundle = await fetchBundle();
  } catch {
    return; // the next question finds out why; until then the answer is drawn without the profile of another bundle
  }
  open();
  watch();
}

/** The same visitor, after one more visit. */
function further() {
  const { answer } = shown;
  const append = (pages) => {
    history.append(pages, { added: true });
    edited();
    ask(answer, pages);
  };
  const pages = [];
  const go = el("button", { type: "button", class: "primary", disabled: true, "data-ready": "false", id: "append-typed", onclick: () => append(pages) }, "Predict after this visit");
  const typed = el("div", { hidden: true, class: "typed" },
    pagesEditor(pages, { name: "the visit to come", limits: bundle.limits, changed: () => { go.dataset.ready = String(pages.length > 0); standing(); } }), go);
  const type = () => {
    typed.hidden = false;
    typed.querySelector("input").focus();
  };
  return el("section", { class: "panel", id: "further", "aria-labelledby": "further-title" },
    el("h3", { id: "further-title" }, "The same visitor after one more visit"),
    el("p", { class: "quiet" }, "Adds a visit, asks again, and shows both answers side by side."),
    el("div", { class: "go" },
      el("button", { type: "button", id: "append-predicted", "data-ready": String(answer.next_session.length > 0), onclick: () => append(answer.next_session) }, "Add the predicted visit"),
      el("button", { type: "button", id: "type-visit", "data-ready": "true", onclick: type }, "Type a visit")),
    typed);
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
for (const id of ["samples", "decode"]) at(id).addEventListener("change", edited);
at("example").addEventListener("change", (event) => choose(event.target.value));
at("add-session").addEventListener("click", () => { history.append([]).focus(); history.changed(); });
at("take-pasted").addEventListener("click", () => {
  const said = at("paste-said");
  said.hidden = true;
  try {
    history.set(parse(at("pasted").value, bundle.limits));
    at("example").value = "";
    at("paste").open = false;
    edited();
  } catch (error) {
    said.textContent = error.message;
    said.hidden = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("work").hidden) ask();
});
start();
