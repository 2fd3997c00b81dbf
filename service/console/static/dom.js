/**
 * Elements from plain values. Every text becomes a text node, so that a page named like markup stays a name: nothing
 * that comes from outside is parsed as HTML anywhere in the console.
 */

/** `el("p", { class: "quiet", onclick: f }, "text", child)`; null, undefined and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** Replace what `parent` holds. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** A span from `from` to `to` of its parent's width, both in [0, 1]. (A style attribute would need 'unsafe-inline'.) */
export function stretch(element, from, to) {
  element.style.left = `${(100 * from).toFixed(3)}%`;
  element.style.width = `${(100 * Math.max(to - from, 0)).toFixed(3)}%`;
  return element;
}

export const page = (name, extra = "") => el("code", { class: `page ${extra}`.trim() }, name);

/** A list of pages in order; `marks`: the class of those that stand out, by name. */
export function journey(pages, marks = new Map()) {
  if (!pages.length) return el("p", { class: "quiet" }, "No page: the visit would end at once.");
  return el("ol", { class: "journey" }, pages.map((name) => el("li", {}, page(name, marks.get(name) ?? ""))));
}
