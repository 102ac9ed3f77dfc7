import "@fontsource-variable/inter/wght.css";
import "./app/mantine-parts.css";
import "./app/tokens.css";
import "./app/mantine.css";
import "./app/base.css";
import { createTheme, defaultVariantColorsResolver, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queries, router } from "./app/router";

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

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto" withCssVariables={false} withGlobalClasses={false}>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
