// Who is there: a token, or a name and a password; also where a session has ended.

import { h, icon, replace } from "../dom.js";
import { t } from "../i18n.js";
import { ApiError, login } from "../api.js";
import { commandBox, explain } from "../parts.js";

/**
 * @param {(me: import("../api.js").Me) => void} onLogin @param {{ ended?: boolean, message?: string }} [why]
 */
export function loginView(onLogin, { ended = false, message = "" } = {}) {
  const error = h("p", { class: "form-error", role: "alert", hidden: message === "" }, message);
  const attempt = async (/** @type {Event} */ event, /** @type {() => any} */ proof) => {
    event.preventDefault();
    error.hidden = true;
    try {
      onLogin(await login(proof()));
    } catch (failure) {
      error.hidden = false;
      error.textContent = failure instanceof ApiError && failure.status === 401 ? t("login.wrong") : explain(failure);
    }
  };
  const token = h("input", { type: "password", id: "login-token", required: true, autocomplete: "off", dir: "ltr" });
  const user = h("input", { type: "text", id: "login-user", required: true, autocomplete: "username", dir: "auto" });
  const password = h("input", { type: "password", id: "login-password", required: true, autocomplete: "current-password" });
  const submit = () => h("button", { type: "submit", class: "button primary" }, t("login.submit"));
  const forms = {
    token: () => h("form", { class: "form", onsubmit: (/** @type {Event} */ event) => attempt(event, () => ({ token: token.value.trim() })) }, h("label", { for: "login-token" }, t("login.token")), token, submit()),
    password: () => h("form", { class: "form", onsubmit: (/** @type {Event} */ event) => attempt(event, () => ({ user: user.value, password: password.value })) }, h("label", { for: "login-user" }, t("login.user")), user, h("label", { for: "login-password" }, t("login.password")), password, submit()),
  };
  const place = h("div");
  const segments = h("div", { class: "segments", role: "group", "aria-label": t("login.how") });
  const choose = (/** @type {keyof typeof forms} */ name) => {
    replace(segments, ...(/** @type {const} */ (["token", "password"])).map((one) => h("button", { type: "button", class: "segment", "aria-pressed": String(one === name), onclick: () => choose(one) }, t(`login.by_${one}`))));
    replace(place, forms[name]());
    error.hidden = true;
    /** @type {HTMLElement | null} */ (place.querySelector("input"))?.focus();
  };
  choose("token");
  error.hidden = message === "";
  return h("main", { class: "login" }, h("div", { class: "login-card" }, brand(), h("h1", {}, ended ? t("login.ended") : t("login.title")), h("p", { class: "muted" }, ended ? t("login.ended_about") : t("login.about")), segments, place, error,
    h("details", {}, h("summary", {}, t("login.help")), h("p", { class: "muted" }, t("login.help_about")), commandBox("weir token --user me --role admin --link"))));
}

export function brand() {
  return h("span", { class: "brand" }, logo(), "Weir");
}

function logo() {
  const mark = icon("operate");
  mark.setAttribute("class", "logo");
  mark.setAttribute("viewBox", "0 0 32 32");
  mark.firstElementChild?.setAttribute("d", "M6 12c3.3 0 3.3 3 6.7 3s3.3-3 6.6-3 3.3 3 6.7 3M6 19c3.3 0 3.3 3 6.7 3s3.3-3 6.6-3 3.3 3 6.7 3");
  return h("span", { class: "logo-box", "aria-hidden": "true" }, mark);
}
