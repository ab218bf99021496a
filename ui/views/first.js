// What a first visit sees: how to send the first event.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { get } from "../api.js";
import { commandBox, emptyState } from "../parts.js";

/** @param {import("../main.js").Context} cx */
export async function firstEvent(cx) {
  const body = `-d '{"user_id": "${cx.me.user.replace(/[^\w.@-]/g, "")}", "code": "print(1)", "status": "success"}'`;
  const own = new URL("api/logs", document.baseURI).href;
  const open = await openSource(cx);
  const command = open ? `curl ${open} \\\n  ${body}` : `curl -H "Authorization: Bearer $WEIR_TOKEN" ${own} \\\n  ${body}`;
  return emptyState(t("first.title"),
    h("p", { class: "muted" }, t("first.about")),
    commandBox(command),
    !open && h("p", { class: "muted" }, t("first.token"), " ", h("code", { dir: "ltr" }, "weir token --user me --role admin")),
    h("p", { class: "muted" }, t("first.live")));
}

/** A source that takes events without a token, as an administrator may know. @param {import("../main.js").Context} cx */
async function openSource(cx) {
  if (cx.me.role !== "admin") return "";
  const answer = await get("api/config").catch(() => undefined);
  for (const source of Object.values(answer?.config?.sources ?? {})) {
    const { type, address, path = "/", auth, tls } = /** @type {any} */ (source ?? {});
    const isOpen = type === "http" && typeof address === "string" && !address.startsWith("unix:") && (!auth || auth.type === "none");
    if (isOpen) return `${tls ? "https" : "http"}://${address}${path}`;
  }
  return "";
}
