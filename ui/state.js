// The state of the page, as it is written in its address.

/**
 * @typedef {object} State
 * @property {string} view
 * @property {string} q the query
 * @property {string} range a preset such as `24h`, `all`, or `custom`
 * @property {string} from RFC 3339, where the range is `custom`
 * @property {string} to
 * @property {string} event the id of the open event
 * @property {string} user
 * @property {string} session
 * @property {string} tab
 * @property {boolean} live whether events are shown as they come
 * @property {boolean} reads whether the page's own reads are listed
 */

export const VIEWS = ["events", "overview", "people", "operate"];

/** Presets and their length in seconds; none for all time. @type {Record<string, number>} */
export const RANGES = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, all: 0 };

/** @type {State} */
const DEFAULT = {
  view: "events", q: "", range: "24h", from: "", to: "", event: "", user: "", session: "", tab: "", live: true, reads: false,
};

/** @param {string} search the query of an address @returns {State} */
export function parse(search) {
  const given = new URLSearchParams(search);
  const state = { ...DEFAULT };
  for (const name of /** @type {const} */ (["q", "event", "user", "session", "tab"])) state[name] = given.get(name) ?? "";
  const view = given.get("view") ?? "";
  if (VIEWS.includes(view)) state.view = view;
  state.live = given.get("live") !== "0";
  state.reads = given.get("reads") === "1";
  const range = given.get("range") ?? "";
  if (Object.hasOwn(RANGES, range)) state.range = range;
  const [from, to] = [time(given.get("from")), time(given.get("to"))];
  if (from || to) Object.assign(state, { range: "custom", from, to });
  return state;
}

/** @param {string | null} text */
function time(text) {
  const at = text ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? "" : new Date(at).toISOString();
}

/** The query of the address of a state; what is as ever is left out. @param {Partial<State>} partial */
export function format(partial) {
  const state = { ...DEFAULT, ...partial };
  const out = new URLSearchParams();
  for (const name of /** @type {const} */ (["view", "q", "event", "user", "session", "tab"])) {
    if (state[name] !== DEFAULT[name]) out.set(name, state[name]);
  }
  if (state.range === "custom") {
    if (state.from) out.set("from", state.from);
    if (state.to) out.set("to", state.to);
  } else if (state.range !== DEFAULT.range) out.set("range", state.range);
  if (!state.live) out.set("live", "0");
  if (state.reads) out.set("reads", "1");
  return `?${out}`;
}

/** The time that a state is about, in milliseconds; absent ends are open. @param {State} state @param {number} now */
export function span(state, now) {
  if (state.range === "custom") {
    return { from: state.from ? Date.parse(state.from) : undefined, to: state.to ? Date.parse(state.to) : undefined };
  }
  const seconds = RANGES[state.range];
  return { from: seconds ? now - seconds * 1000 : undefined, to: undefined };
}
