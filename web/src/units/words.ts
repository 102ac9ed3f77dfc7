/** Text from elsewhere, as the console writes it. */

/** With a capital at its beginning. */
export const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** Without the marks that others put around commands. */
export const plain = (text: string): string => text.replaceAll("`", "");
