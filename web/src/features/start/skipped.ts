/** Whether this browser's owner would rather do it by themselves. */
const NAME = "sluicegate-first-run-skipped";

export const wasSkipped = (): boolean => localStorage.getItem(NAME) !== null;
export const skip = (): void => localStorage.setItem(NAME, "1");
export const resume = (): void => localStorage.removeItem(NAME);
