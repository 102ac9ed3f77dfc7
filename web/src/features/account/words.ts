/** How a session was begun, and with what, in words. */
import { t } from "@lingui/core/macro";
import type { SignInMethod } from "@/api/model";

export function methodWords(method: SignInMethod): string {
  switch (method) {
    case "password":
      return t`Password`;
    case "password+totp":
      return t`Password and code`;
    case "password+recovery":
      return t`Password and recovery code`;
    case "passkey":
      return t`Passkey`;
    case "sign-on":
      return t`Sign-on`;
  }
}

// The first that fits: most browsers name others too.
const BROWSERS: readonly [RegExp, string][] = [
  [/\bEdg(?:e|A|iOS)?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\b(?:Firefox|FxiOS)\//, "Firefox"],
  [/\bHeadlessChrome\/|\b(?:Chrome|CriOS|Chromium)\//, "Chrome"],
  [/\bVersion\/.*\bSafari\//, "Safari"],
  [/^curl\//, "curl"],
];
const SYSTEMS: readonly [RegExp, string][] = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b|\bMacintosh\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
];

/** "Firefox on Linux", from what a browser says about itself. */
export function deviceWords(userAgent: string | null): string {
  if (!userAgent) return t`Not known`;
  const browser = BROWSERS.find(([sign]) => sign.test(userAgent))?.[1];
  const system = SYSTEMS.find(([sign]) => sign.test(userAgent))?.[1];
  if (browser && system) return t`${browser} on ${system}`;
  return browser ?? system ?? userAgent.slice(0, 40);
}
