/** What is shown instead of an answer: problems in words, nobody there, and the question for the key. */

import { el } from "./dom.js";
import { place } from "./words.js";

/** `again`: what a button tries again, where that can help. */
export function trouble(failure, again = null) {
  if (!failure.kind) return trouble({ kind: "problem", title: "The console failed", detail: `This should not happen (${failure.name}).`, errors: [] });
  const wait = failure.retryAfter !== null && failure.retryAfter !== undefined ? ` Try again in ${failure.retryAfter} s.` : "";
  const errors = failure.errors.filter((error) => error.pointer);
  return el("div", { class: "panel alert", role: "alert" },
    el("h3", {}, failure.title),
    errors.length === 0 && el("p", {}, `${failure.detail}${wait}`),
    errors.length > 0 && el("ul", {}, errors.map((error) => el("li", {}, `${place(error.pointer)}: ${error.detail}`))),
    again && failure.passing && el("button", { type: "button", onclick: again }, "Try again"),
    failure.requestId && el("p", { class: "quiet" }, "For the operator: request ", el("code", {}, failure.requestId)));
}

/** Asks for the API key; `take` gets it. */
export function keyForm(failure, asked, take) {
  const input = el("input", { type: "password", id: "key", required: true, autocomplete: "off", spellcheck: "false", "aria-describedby": "key-kept" });
  return el("form", {
    class: "panel gate", id: "key-form",
    onsubmit: (event) => { event.preventDefault(); take(input.value.trim()); },
  },
  el("h2", {}, "An API key is needed"),
  asked && el("p", { class: "wrong", role: "alert" }, `${failure.title}. ${failure.detail}`),
  el("label", { for: "key" }, "A key with the scope “predict”"),
  el("div", { class: "row" }, input, el("button", { type: "submit", class: "primary" }, "Use this key")),
  el("p", { class: "quiet", id: "key-kept" }, "It stays in this page's memory and is nowhere stored: whoever uses this browser after you does not find it. A reload asks for it again."));
}
