import { defineConfig } from "@lingui/cli";
import { formatter } from "@lingui/format-po";

// English stands in the source; a translation is one file in src/locales (docs/console.md).
export default defineConfig({
  sourceLocale: "en",
  locales: ["en", "en-XA"],
  pseudoLocale: "en-XA",
  catalogs: [{ path: "src/locales/{locale}", include: ["src"] }],
  format: formatter({ lineNumbers: false }),
});
