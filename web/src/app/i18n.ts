/** The language of the console. English is in the source; a translation is `src/locales/LANGUAGE.po` (docs/console.md).
 *
 * It is chosen before the application is loaded and holds until the page is left, so that texts of modules (columns of a
 * table, entries of the navigation) may be written where they stand.
 */
import { i18n, type Messages } from "@lingui/core";

const catalogs = import.meta.glob<{ messages: Messages }>(["../locales/*.po", "!../locales/en.po"]);

// Texts with variables and plurals are taken apart when the console is built, those in the source too (vite.config.ts).
i18n.setMessagesCompiler((text) => [text]);

/** The reader's first language that there is a translation into; English needs none. */
export async function speak(): Promise<void> {
  for (const wanted of navigator.languages) {
    const language = [wanted, wanted.split("-")[0]].find((each) => catalogs[`../locales/${each}.po`]);
    if (language) {
      const { messages } = await catalogs[`../locales/${language}.po`]!();
      i18n.loadAndActivate({ locale: language, messages });
      document.documentElement.lang = language;
      return;
    }
    if (/^en(-|$)/.test(wanted)) break;
  }
  i18n.loadAndActivate({ locale: "en", messages: {} });
}
