// Searches one click away: those that come with the page, and those that somebody has kept.

import { h, icon } from "../dom.js";
import { t } from "../i18n.js";
import { forget, save, saved } from "../settings.js";
import { dialog } from "../parts.js";

/** @param {import("../main.js").Context} cx */
export function chips(cx) {
  const { q, reads } = cx.state;
  const role = cx.me.role;
  const chip = (/** @type {string} */ name, /** @type {string} */ query, /** @type {Node | false} */ more = false) => {
    const isOn = q === query;
    const search = () => cx.go({ q: isOn ? "" : query, event: "" });
    return h("span", { class: `chip${isOn ? " on" : ""}` }, h("button", { type: "button", "aria-pressed": String(isOn), title: query, onclick: search }, h("bdi", {}, name)), more);
  };
  const own = saved().map(({ name, q: query }) => chip(name, query, h("button", {
    type: "button", class: "chip-close", "aria-label": t("saved.forget", { name }), onclick: () => { forget(name); cx.refresh(); },
  }, icon("close"))));
  const isNew = q !== "" && !saved().some((one) => one.q === q);
  return [
    chip(t("chip.errors"), "status:error", h("span", { class: "badge chip-badge", hidden: true })),
    chip(t("chip.slow"), "duration_ms:>=1000"),
    role === "admin" && chip(t("chip.alerts"), "event_type:alert"),
    role === "admin" && chip(t("chip.logins"), "event_type:login_failed"),
    ...own,
    isNew && h("button", { type: "button", class: "text-button", onclick: () => ask(cx) }, icon("star"), t("saved.save")),
    role !== "user" && h("label", { class: "check" }, h("input", { type: "checkbox", checked: reads, onchange: () => cx.go({ reads: !reads }) }), t("chip.reads")),
  ];
}

/** @param {import("../main.js").Context} cx */
function ask(cx) {
  dialog(t("saved.save"), (close) => {
    const name = h("input", { type: "text", required: true, maxlength: 60, id: "saved-name", dir: "auto" });
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      if (!name.value.trim()) return;
      save(name.value.trim(), cx.state.q);
      close();
      cx.refresh();
    };
    return [h("form", { class: "form", onsubmit: submit }, h("label", { for: "saved-name" }, t("saved.name")), name, h("pre", { class: "muted", dir: "ltr" }, cx.state.q),
      h("footer", {}, h("button", { type: "submit", class: "button primary" }, t("saved.save"))))];
  });
}
