/** The language of the console. English is in the source; a translation is `src/locales/LANGUAGE.po` (docs/console.md).
 *
 * It is chosen before the application is loaded and holds until the page is left, so that texts of modules (columns of a
 * table, entries of the navigation) may be written where they stand.
 */
import { i18n, type Messages } from "@lingui/core";
import { compileMessage } from "@lingui/message-utils/compileMessage";

const catalogs = import.meta.glob<{ messages: Messages }>(["../locales/*.po", "!../locales/en.po"]);

// What stands in the source (plurals, variables) is read here; catalogs are compiled when the console is built.
i18n.setMessagesCompiler(compileMessage);

const languageOf = (file: string): string => file.slice("../locales/".length, -".po".length);

/** The reader's first language that there is a translation into; `?lang=` in the URL overrules the browser. */
export async function speak(): Promise<void> {
  const asked = new URLSearchParams(location.search).get("lang");
  for (const wanted of asked ? [asked] : navigator.languages) {
    if (/^en(-|$)/.test(wanted)) break;
    const file = Object.keys(catalogs).find((each) => languageOf(each) === wanted || languageOf(each) === wanted.split("-")[0]);
    if (!file) continue;
    const { messages } = await catalogs[file]!();
    i18n.loadAndActivate({ locale: languageOf(file), messages });
    document.documentElement.lang = languageOf(file);
    return;
  }
  i18n.loadAndActivate({ locale: "en", messages: {} });
}
