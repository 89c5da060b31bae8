// Writes src/codes.ts from the catalogue of errors, spec/errors.toml; with --check says whether it is that.
import { readFileSync, writeFileSync } from "node:fs";

const catalogue = readFileSync(new URL("../../spec/errors.toml", import.meta.url), "utf8");
const rows = catalogue.split("[[error]]").slice(1).map((row) => ({
  code: /code = "(\w+)"/.exec(row)[1],
  retryable: /retryable = (\w+)/.exec(row)[1] === "true",
  text: /text = "(.*)"/.exec(row)[1],
}));
const list = (codes) => codes.map((code) => `  "${code}",\n`).join("");
const text = `// Of spec/errors.toml; written by codes.mjs.

/** What the server says of what went wrong. */
export type ErrorCode =
${rows.map(({ code, text }) => `  /** ${text} */\n  | "${code}"`).join("\n")};

/** What may succeed later without a change; the last ones are this client's own. */
export const RETRYABLE: readonly string[] = [
${list([...rows.filter(({ retryable }) => retryable).map(({ code }) => code), "queue_full", "no_token"])}];
`;
const file = new URL("src/codes.ts", import.meta.url);
if (process.argv.includes("--check")) {
  if (readFileSync(file, "utf8") !== text) throw new Error("src/codes.ts is stale: node codes.mjs");
} else writeFileSync(file, text);
