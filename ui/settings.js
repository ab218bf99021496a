// What a visitor has chosen, kept in the browser: language, theme, zone of times, saved searches, history.

/** Searches that are remembered. */
const MAX_HISTORY = 50;
/** Searches that are kept under a name. */
const MAX_SAVED = 30;

/** @typedef {{ name: string, q: string }} Saved */

/** @param {string} name @param {any} otherwise */
function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`weir.${name}`) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
function write(name, value) {
  try {
    localStorage.setItem(`weir.${name}`, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

/** @param {string} name @param {string[]} allowed */
function choice(name, allowed) {
  const value = read(name, "");
  return allowed.includes(value) ? value : allowed[0];
}

export const settings = {
  /** @type {"en" | "fa"} */
  language: /** @type {any} */ (choice("language", navigator.language.startsWith("fa") ? ["fa", "en"] : ["en", "fa"])),
  /** @type {"auto" | "light" | "dark"} */
  theme: /** @type {any} */ (choice("theme", ["auto", "light", "dark"])),
  /** @type {"local" | "utc"} */
  zone: /** @type {any} */ (choice("zone", ["local", "utc"])),
};

/** @param {"language" | "theme" | "zone"} name @param {string} value */
export function choose(name, value) {
  /** @type {any} */ (settings)[name] = value;
  write(name, value);
}

/** @returns {string[]} */
export function history() {
  const known = read("history", []);
  return Array.isArray(known) ? known.filter((one) => typeof one === "string") : [];
}

/** @param {string} query */
export function remember(query) {
  if (query) write("history", [query, ...history().filter((one) => one !== query)].slice(0, MAX_HISTORY));
}

/** @returns {Saved[]} */
export function saved() {
  const known = read("saved", []);
  return Array.isArray(known) ? known.filter((one) => typeof one?.name === "string" && typeof one?.q === "string") : [];
}

/** Keeps a search under a name, in place of the one that has it. @param {string} name @param {string} q */
export function save(name, q) {
  const known = saved();
  const place = known.findIndex((one) => one.name === name);
  if (place >= 0) known[place] = { name, q };
  else known.push({ name, q });
  write("saved", known.slice(-MAX_SAVED));
}

/** @param {string} name */
export function forget(name) {
  write("saved", saved().filter((one) => one.name !== name));
}
