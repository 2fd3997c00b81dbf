/** A field for a page's name that proposes known pages: a combobox as the ARIA authoring practices describe it. */

import { pages } from "./api.js";
import { el, fill } from "./dom.js";

const PAUSE = 120; // ms of quiet before the service is asked
const PROPOSED = 8;
let made = 0;

/** `choose(names)` gets what was picked or typed; several names, if there was white space between them. */
export function pageField({ label, choose, longest }) {
  const id = `page-${(made += 1)}`;
  const list = el("ul", { class: "proposals", role: "listbox", id: `${id}-list`, "aria-label": "known pages", hidden: true });
  const input = el("input", {
    id, type: "text", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
    "aria-label": label, placeholder: "add a page", spellcheck: "false", autocapitalize: "off", maxlength: longest,
  });
  let active = -1;
  let waiting = null;
  let asking = null;

  const options = () => [...list.children];

  function close() {
    clearTimeout(waiting);
    asking?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function activate(place) {
    const all = options();
    if (!all.length) return;
    active = (place + all.length) % all.length;
    all.forEach((option, i) => option.setAttribute("aria-selected", String(i === active)));
    input.setAttribute("aria-activedescendant", all[active].id);
    all[active].scrollIntoView({ block: "nearest" });
  }

  function take(text) {
    const names = text.split(/\s+/).filter(Boolean);
    close();
    input.value = "";
    if (names.length) choose(names);
    input.focus();
  }

  async function propose() {
    clearTimeout(waiting);
    asking?.abort();
    const own = (asking = new AbortController());
    let found;
    try {
      found = await pages(input.value, PROPOSED, own.signal);
    } catch {
      if (asking === own) close(); // typing goes on without proposals
      return;
    }
    if (asking !== own || document.activeElement !== input) return;
    fill(list, found.map((name, i) => el("li", {
      role: "option", id: `${id}-${i}`, "aria-selected": "false",
      onpointerdown: (event) => { event.preventDefault(); take(name); },
    }, name)));
    active = -1;
    input.removeAttribute("aria-activedescendant");
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
  }

  function soon() {
    clearTimeout(waiting);
    waiting = setTimeout(propose, PAUSE);
  }

  input.addEventListener("input", soon);
  input.addEventListener("focus", soon);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      take(open && active >= 0 ? options()[active].textContent : input.value);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      close();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (open) activate(event.key === "ArrowDown" ? active + 1 : Math.max(active, 0) - 1);
      else propose();
    }
  });
  return el("div", { class: "combo" }, input, list);
}
