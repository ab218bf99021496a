// Live events: connects, connects again without losing any, and hands them over a frame at a time.

import { address, ApiError, OWN } from "./api.js";
import { Parser } from "./sse.js";

/** A silent stream shows that it lives every 15 seconds; after so many milliseconds without that it is dead. */
const SILENCE = 35_000;
/** Milliseconds between two attempts, doubled each time. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [500, 10_000];
/** Milliseconds between two hand-overs: nobody reads faster. */
const EVERY = 100;
/** Events that wait to be shown; the oldest of more are counted as a gap. */
const MAX_WAITING = 20_000;

/** @typedef {{ kind: "event", row: import("./api.js").Row } | { kind: "gap", missed: number, at: number }} Item */
/** @typedef {"connecting" | "live" | "reconnecting" | "failed" | "stopped"} Phase */

export class Live {
  /** @type {Phase} */
  phase = "stopped";
  /** Why it failed. */
  reason = "";
  #lastId = "";
  #pause = FIRST_PAUSE;
  /** @type {AbortController | undefined} */
  #abort;
  /** @type {Item[]} */
  #waiting = [];
  #isPlanned = false;
  #handedAt = 0;

  /** @param {string} query @param {(items: Item[]) => void} onItems @param {() => void} onPhase @param {() => void} onExpired */
  constructor(query, onItems, onPhase, onExpired) {
    this.query = query;
    this.onItems = onItems;
    this.onPhase = onPhase;
    this.onExpired = onExpired;
  }

  start() {
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#set("stopped");
  }

  /** @param {Phase} phase @param {string} [reason] */
  #set(phase, reason = "") {
    if (this.phase === phase && this.reason === reason) return;
    this.phase = phase;
    this.reason = reason;
    this.onPhase();
  }

  /** @param {AbortSignal} signal */
  async #run(signal) {
    this.#set("connecting");
    while (!signal.aborted) {
      let pause = this.#pause;
      try {
        await this.#connect(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && error.status === 401) return this.onExpired();
        if (error instanceof ApiError && [400, 403, 404].includes(error.status)) return this.#set("failed", error.message);
        if (error instanceof ApiError && error.retryAfter) pause = error.retryAfter * 1000;
      }
      if (signal.aborted) return;
      this.#set("reconnecting");
      await new Promise((done) => setTimeout(done, pause * (0.75 + Math.random() / 2)));
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    }
  }

  /** @param {AbortSignal} signal */
  async #connect(signal) {
    /** @type {Record<string, string>} */
    const headers = this.#lastId ? { ...OWN, "last-event-id": this.#lastId } : { ...OWN };
    const own = new AbortController();
    const stop = () => own.abort();
    signal.addEventListener("abort", stop);
    try {
      const response = await fetch(address("api/stream", { q: this.query }), { headers, signal: own.signal, credentials: "same-origin" });
      if (!response.ok || !response.body) {
        const told = await response.json().catch(() => ({}));
        throw new ApiError(response.status, told.detail ?? "", Number(response.headers.get("retry-after")) || undefined);
      }
      this.#set("live");
      this.#pause = FIRST_PAUSE;
      await this.#read(response.body.getReader(), own);
    } finally {
      signal.removeEventListener("abort", stop);
      own.abort();
    }
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {AbortController} own */
  async #read(reader, own) {
    const [parser, decoder] = [new Parser(), new TextDecoder()];
    for (;;) {
      const watch = setTimeout(() => own.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(watch));
      if (done) return;
      for (const message of parser.feed(decoder.decode(value, { stream: true }))) this.#take(message);
    }
  }

  /** @param {import("./sse.js").Message} message */
  #take(message) {
    if (message.id) this.#lastId = message.id;
    /** @type {any} */
    let data;
    try {
      data = JSON.parse(message.data);
    } catch {
      return;
    }
    if (message.event === "log") this.#waiting.push({ kind: "event", row: data });
    else if (message.event === "gap") this.#waiting.push({ kind: "gap", missed: Number(data.missed) || 0, at: Date.now() });
    if (this.#waiting.length > MAX_WAITING) {
      const lost = this.#waiting.splice(0, this.#waiting.length - MAX_WAITING / 2);
      this.#waiting.unshift({ kind: "gap", missed: countOf(lost), at: Date.now() });
    }
    this.#plan();
  }

  /** Hands over what has come, at once or a little later; a page in the background has no frames. */
  #plan() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    const hand = () => {
      this.#isPlanned = false;
      this.#handedAt = performance.now();
      const items = this.#waiting;
      this.#waiting = [];
      if (this.phase !== "stopped") this.onItems(items);
    };
    const pause = this.#handedAt + EVERY - performance.now();
    if (document.hidden) setTimeout(hand, 5 * EVERY);
    else if (pause > 0) setTimeout(() => requestAnimationFrame(hand), pause);
    else requestAnimationFrame(hand);
  }
}

/** How many events items stand for. @param {Item[]} items */
export function countOf(items) {
  return items.reduce((sum, item) => sum + (item.kind === "gap" ? item.missed : 1), 0);
}
