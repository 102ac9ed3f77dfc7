/** The application, once its language is known. */
import "@fontsource-variable/inter/wght.css";
import "./font.css";
import "./mantine-parts.css";
import "./tokens.css";
import "./mantine.css";
import "./base.css";
import { createTheme, defaultVariantColorsResolver, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { i18n } from "@lingui/core";
import { I18nProvider } from "@lingui/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { cameWithout } from "@/api/session";
import { queries, router } from "./router";

// Colours and sizes stand in tokens.css and mantine.css: the provider must write no <style> element (strict CSP).
const theme = createTheme({
  primaryColor: "teal",
  cursorType: "pointer",
  respectReducedMotion: true,
  variantColorResolver: (input) => {
    const colors = defaultVariantColorsResolver(input);
    return input.variant === "filled" ? { ...colors, color: "var(--sg-on-accent)" } : colors;
  },
});

// The page's own files come while it is asked who is signed in.
if (!cameWithout()) {
  const [matched] = router.getMatchedRoutes(router.latestLocation.pathname);
  for (const route of matched) void router.loadRouteChunk(route);
}

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto" withCssVariables={false} withGlobalClasses={false}>
      <I18nProvider i18n={i18n}>
        <QueryClientProvider client={queries}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </I18nProvider>
    </MantineProvider>
  </StrictMode>,
);
