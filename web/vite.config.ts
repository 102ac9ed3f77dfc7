import { compileMessageOrThrow } from "@lingui/message-utils/compileMessage";
import { lingui } from "@lingui/vite-plugin";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

// Where `npm run dev` finds a gateway; the built console always talks to the origin that serves it.
const gateway = "http://127.0.0.1:8080";

/** A text in English, as Lingui's macros leave it in the code; nothing else of the console writes a literal message. */
const TEXT = /\bmessage: ("(?:[^"\\]|\\.)*")/g;

/** Takes texts apart that have variables, plurals or elements, as Lingui does with catalogs: no browser has to load a parser. */
const textsTakenApart: Plugin = {
  name: "texts-taken-apart",
  enforce: "pre", // as are the macros, after which it stands
  transform: {
    filter: { id: /\/src\/.*\.tsx?$/, code: "@lingui/" },
    handler: (code) => ({
      code: code.replace(TEXT, (_, text: string) => {
        const tokens = compileMessageOrThrow(JSON.parse(text) as string);
        return `message: ${JSON.stringify(tokens.every((each) => typeof each === "string") ? tokens.join("") : tokens)}`;
      }),
      map: null, // lines stay where they are
    }),
  },
};

/** What most pages share comes in two files: sixty small ones take a browser's six connections longer than the bytes do.
 * Ours stand apart, since texts of modules may not be read before the language is known. */
const SHARED = [
  { name: "libraries", test: /node_modules/, minShareCount: 14 },
  { name: "shared", test: /\/src\/(api|ui|units|features)\//, minShareCount: 14 },
];

export default defineConfig({
  base: "/console/",
  plugins: [
    // The English text stays beside its id: it needs no catalog.
    lingui({ macroTransform: { macro: { descriptorFields: "message" } } }),
    textsTakenApart,
    react(),
  ],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    outDir: "../gateway/console",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // a strict CSP refuses data: fonts and images
    rolldownOptions: { output: { codeSplitting: { groups: SHARED } } },
    modulePreload: { polyfill: false }, // the polyfill would be an inline script in older Vite; es2022 browsers have it
  },
  server: { proxy: { "/api": gateway } },
});
