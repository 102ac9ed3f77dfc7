import { speak } from "./app/i18n";

await speak();
await import("./app/start");
