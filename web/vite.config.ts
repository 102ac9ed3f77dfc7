import { lingui } from "@lingui/vite-plugin";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where `npm run dev` finds a gateway; the built console always talks to the origin that serves it.
const gateway = "http://127.0.0.1:8080";

export default defineConfig({
  base: "/console/",
  plugins: [
    // The English text stays beside its id: it needs no catalog.
    lingui({ macroTransform: { macro: { descriptorFields: "message" } } }),
    react(),
  ],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    outDir: "../gateway/console",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // a strict CSP refuses data: fonts and images
    modulePreload: { polyfill: false }, // the polyfill would be an inline script in older Vite; es2022 browsers have it
  },
  server: { proxy: { "/api": gateway } },
});
