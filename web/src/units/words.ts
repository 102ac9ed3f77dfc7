/** Text from elsewhere, as the console writes it, and words that pages share. */
import { t } from "@lingui/core/macro";
import type { WindowName } from "@/api/model";

/** With a capital at its beginning, unless that is a name that machines read: base_url, targets.0.model. */
export const sentence = (text: string): string => (/^[a-z]+[_.][a-z0-9]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1));

/** Without the marks that others put around commands. */
export const plain = (text: string): string => text.replaceAll("`", "");

/** So much in each window: "20 requests a minute", "$50.00 a month", "1 M tokens in all". */
export function per(amount: string, window: WindowName): string {
  switch (window) {
    case "second":
      return t`${amount} a second`;
    case "minute":
      return t`${amount} a minute`;
    case "hour":
      return t`${amount} an hour`;
    case "day":
      return t`${amount} a day`;
    case "week":
      return t`${amount} a week`;
    case "month":
      return t`${amount} a month`;
    case "lifetime":
      return t`${amount} in all`;
  }
}
