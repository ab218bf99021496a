// What the modules of the page must not do; the types are checked by tsc.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const tools = createRequire(join(process.env.WEIR_UI_TOOLS ?? dirname(import.meta.filename), "package.json"));
const js = tools("@eslint/js");
const globals = tools("globals");

/** Ways from a text to markup or to code: the page has none. */
const markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc", "write", "writeln", "setHTMLUnsafe", "createContextualFragment"];

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: "latest", sourceType: "module", globals: globals.browser },
    rules: {
      "no-restricted-properties": ["error", ...markup.map((property) => ({ property, message: "texts become text nodes: use dom.js" }))],
      "no-restricted-globals": ["error", "event", "name"],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-script-url": "error",
      "no-control-regex": "off",
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      eqeqeq: "error",
      curly: ["error", "multi-line"],
      "max-lines": ["error", 600],
    },
  },
];
