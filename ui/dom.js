// Makes elements. Whatever an event says becomes a text node or an attribute's value, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Props `on…` are listeners, `css` sets style properties, all else are attributes. */

/**
 * @template {Element} T
 * @param {T} element @param {Props} props @param {Child[]} children
 */
function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, text] of Object.entries(value)) style(element, key, text);
    else if (name === "href" && !isOwnLink(String(value))) throw new Error("a link leads outside the page");
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, children);
  return element;
}

/** @param {Element} element @param {string} key @param {any} text */
function style(element, key, text) {
  /** @type {HTMLElement} */ (element).style.setProperty(key, String(text));
}

/** Links lead to other states of the page and to what it made itself. @param {string} href */
function isOwnLink(href) {
  return href.startsWith("?") || href.startsWith("blob:") || href === "./" || href.startsWith("get_logs?");
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Props} [props] @param {Child[]} children @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** @param {string} tag @param {Props} [props] @param {Child[]} children @returns {SVGElement} */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Appends what is there. @param {Element} element @param {Child[]} children */
export function put(element, children) {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

/** Replaces what an element contains. @param {Element} element @param {Child[]} children */
export function replace(element, ...children) {
  element.replaceChildren();
  put(element, children);
}

/** Shapes on a grid of 16. */
const ICONS = {
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM10.3 10.3 14 14",
  events: "M2.5 4h11M2.5 8h11M2.5 12h7",
  overview: "M3 13V8M8 13V3M13 13V6",
  people: "M8 7.5A2.5 2.5 0 1 0 8 2.5a2.5 2.5 0 0 0 0 5ZM3 13.5c.5-2.5 2.5-4 5-4s4.5 1.5 5 4",
  operate: "M2.5 4.5h3M10.5 4.5h3M2.5 11.5h3M10.5 11.5h3M5.5 4.5c3 0 2 7 5 7M5.5 11.5c3 0 2-7 5-7",
  close: "M4 4l8 8M12 4l-8 8",
  up: "M4 10l4-4 4 4",
  down: "M4 6l4 4 4-4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8Z",
  link: "M6.5 9.5l3-3M7 4.5l1.5-1.5a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5 7.5 13A3 3 0 0 1 3 8.5L4.5 7",
  play: "M5 3.5v9l7-4.5Z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  export: "M8 2.5v7M5 7l3 3 3-3M3 13.5h10",
  plus: "M8 4v8M4 8h8",
  minus: "M4 8h8",
  star: "M8 2.5l1.7 3.5 3.8.5-2.8 2.7.7 3.8L8 11.2 4.6 13l.7-3.8L2.5 6.5l3.8-.5Z",
  clock: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11ZM8 5v3l2 1.5",
  menu: "M3 8h.01M8 8h.01M13 8h.01",
  terminal: "M3 5l3 3-3 3M8 11.5h5",
  reload: "M13 8a5 5 0 1 1-1.5-3.5M13 2.5v3h-3",
  trash: "M3 4.5h10M6 4.5v-2h4v2M4.5 4.5l.5 9h6l.5-9",
  alert: "M8 2.5 14 13H2ZM8 6.5v3M8 11.3v.01",
  back: "M10 4 6 8l4 4",
  check: "M3.5 8.5l3 3 6-7",
};

/** @typedef {keyof typeof ICONS} IconName */

/** @param {IconName} name */
export function icon(name) {
  const path = s("path", { d: ICONS[name] });
  return s("svg", { class: `icon icon-${name}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}

/**
 * A button that shows an icon, and a text if there is one; `label` names it for everybody.
 * @param {IconName} name @param {string} label @param {(event: any) => void} onclick @param {Props} [props]
 */
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}
