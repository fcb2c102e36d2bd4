import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    files: ["src/**/*.js"],
    languageOptions: { globals: globals.browser },
    // What is logged or evaluated would break the promise that the page says and runs nothing else.
    rules: { eqeqeq: "error", "no-console": "error", "no-eval": "error", "no-implied-eval": "error", "prefer-const": "error" },
  },
  { files: ["*.mjs"], languageOptions: { globals: globals.node } },
];
