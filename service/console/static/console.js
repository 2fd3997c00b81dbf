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
/** What is shown: the answer, the one before it if a visit was added, and that visit. */
let shown = null;
let asking = null;
let watching = null;

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
  history = new History(at("history"), bundle.limits, edited);
  fill(at("example"),
    el("option", { value: "" }, "an example …"),
    bundle.examples.map((example, i) =>
      el("option", { value: i }, `like “${bundle.clusters.find(({ id }) => id === example.cluster).name}”`)),
    el("option", { value: "new" }, "a new visitor, no visits yet"));
  fill(at("samples"), SAMPLES.map((n, i) => el("option", { value: n }, i ? `${n}: slower, more exact` : `${n}: as calibrated`)));
  fill(at("about-shown"), about(bundle, (failure) => fill(at("shown"), trouble(failure))));
  if (kept) history.set(kept);
  else if (bundle.examples.length) choose("0");
  else history.set([]);
  if (!shown) empty();
}

/** Says whether engines answer, until they do. */
async function watch() {
  clearTimeout(watching);
  let up;
  try {
    up = await ready();
  } catch {
    up = null;
  }
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

function edited() {
  at("stale").hidden = shown === null;
  // The answer that is shown is about other visits now: one more visit cannot be compared with it.
  for (const button of at("further")?.querySelectorAll("button") ?? []) button.disabled = true;
}

function empty() {
  at("said").textContent = "";
  fill(at("shown"), el("p", { class: "empty" }, "Edit the visits, then choose Predict. The answer comes here."));
}

/** Ask about the visits as they stand. `before`: the answer to compare with, `added`: the visit in between. */
async function ask(before = null, added = null) {
  asking?.abort();
  const own = (asking = new AbortController());
  const sessions = history.sessions();
  const newest = Math.max(Date.now(), ...sessions.map((session) => Date.parse(session.started_at)));
  const options = { samples: Number(at("samples").value), top_pages: TOP_PAGES, as_of: new Date(newest).toISOString() };
  if (at("decode").value) options.decode = at("decode").value;
  busy(true);
  at("said").textContent = "Predicting …";
  try {
    const answer = await predict({ sessions, options }, own.signal);
    if (asking !== own) return;
    shown = { answer, before, added };
    draw();
  } catch (failure) {
    if (asking !== own) return;
    at("said").textContent = "";
    if (!(failure instanceof Failure)) console.error(failure);
    if (failure.kind === "key") askForKey(failure, true);
    else fill(at("shown"), trouble(failure, () => ask(before, added)));
    if (failure.kind === "down") watch();
  } finally {
    if (asking === own) busy(false);
  }
}

function busy(is) {
  at("answer").setAttribute("aria-busy", String(is));
  at("predict").disabled = is;
}

function draw() {
  const { answer, before, added } = shown;
  history.markUnknown(answer.unknown_pages);
  at("stale").hidden = true;
  at("said").textContent = summary(answer);
  at("about").open = false;
  fill(at("shown"), before && compared(before, answer, added, bundle), drawn(answer, bundle), further());
  // Where the answer is out of sight: below the visits on a narrow screen, above the buttons that add a visit.
  if (before || matchMedia("(max-width: 60rem)").matches) at("answer").scrollIntoView();
  if (bundle.version !== answer.bundle_version) renew();
  else if (answer.fallback === "engine_down") watch();
}

/** Another bundle is served by now: what is shown about it must be its own. */
async function renew() {
  try {
    bundle = await fetchBundle();
  } catch {
    return; // the next question finds out why
  }
  open();
  watch();
}

/** The same visitor, after one more visit. */
function further() {
  const { answer } = shown;
  const append = (pages) => {
    history.append(pages, { added: true });
    ask(answer, pages);
  };
  const pages = [];
  const go = el("button", { type: "button", class: "primary", disabled: true, id: "append-typed", onclick: () => append(pages) }, "Predict after this visit");
  const typed = el("div", { hidden: true, class: "typed" },
    pagesEditor(pages, { name: "the visit to come", limits: bundle.limits, changed: () => { go.disabled = !pages.length; } }), go);
  const type = () => {
    typed.hidden = false;
    typed.querySelector("input").focus();
  };
  return el("section", { class: "panel", id: "further", "aria-labelledby": "further-title" },
    el("h3", { id: "further-title" }, "The same visitor after one more visit"),
    el("p", { class: "quiet" }, "Adds a visit, asks again, and shows both answers side by side."),
    el("div", { class: "go" },
      el("button", { type: "button", id: "append-predicted", disabled: !answer.next_session.length, onclick: () => append(answer.next_session) }, "Add the predicted visit"),
      el("button", { type: "button", id: "type-visit", onclick: type }, "Type a visit")),
    typed);
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("example").addEventListener("change", (event) => choose(event.target.value));
at("add-session").addEventListener("click", () => { history.append([]).focus(); edited(); });
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
