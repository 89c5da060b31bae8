// Builds dist: ES modules and CommonJS with source maps, and their types. --size: only says how large the core is, and fails
// where that is too large. --playground: writes the core for the playground, which is in the server's binary and needs no Node; with
// --check says whether it is there as it should be.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** What a page downloads for the core, minified and by gzip. */
const CORE_BYTES_MAX = 8 * 1024;

process.chdir(fileURLToPath(new URL(".", import.meta.url)));

const common = { bundle: true, target: "es2022", sourcemap: true, logLevel: "warning" };

async function size() {
  const { outputFiles } = await build({
    ...common,
    entryPoints: ["src/index.ts"],
    format: "esm",
    minify: true,
    write: false,
    sourcemap: false,
  });
  const [{ contents }] = outputFiles;
  const bytes = gzipSync(contents, { level: 9 }).length;
  console.log(`core: ${bytes} bytes by gzip (${contents.length} minified), at most ${CORE_BYTES_MAX}`);
  if (bytes > CORE_BYTES_MAX) process.exit(1);
}

async function all() {
  rmSync("dist", { recursive: true, force: true });
  execFileSync(process.execPath, ["codes.mjs", "--check"], { stdio: "inherit" });
  execFileSync("npx", ["tsc", "--project", "."], { stdio: "inherit" });
  for (const [format, extension] of [["esm", "js"], ["cjs", "cjs"]]) {
    await build({ ...common, format, entryPoints: ["src/index.ts"], outfile: `dist/index.${extension}` });
    await build({
      ...common,
      format,
      entryPoints: ["src/react.tsx"],
      outfile: `dist/react.${extension}`,
      external: ["react"],
      // One core, whoever imports it.
      plugins: [
        {
          name: "core",
          setup: ({ onResolve }) => {
            onResolve({ filter: /^\.\/index\.js$/ }, () => ({ path: `./index.${extension}`, external: true }));
          },
        },
      ],
    });
  }
  // The same types for require(), which asks for other names.
  for (const file of readdirSync("dist", { recursive: true }).filter((file) => file.endsWith(".d.ts"))) {
    const types = readFileSync(`dist/${file}`, "utf8");
    writeFileSync(`dist/${file.replace(/\.d\.ts$/, ".d.cts")}`, types.replace(/(from "\.{1,2}\/[^"]*)\.js"/g, '$1.cjs"'));
  }
}

/** As the server serves it: to be read, without a source map that nobody serves. */
async function playground() {
  const file = "../../crates/server/assets/switchboard-client.js";
  const { outputFiles } = await build({ ...common, entryPoints: ["src/index.ts"], format: "esm", write: false, sourcemap: false });
  const text = `// The package of sdk/js, as \`npm run playground\` builds it.\n${outputFiles[0].text}`;
  if (!process.argv.includes("--check")) writeFileSync(file, text);
  else if (readFileSync(file, "utf8") !== text) {
    console.error(`${file} is stale: npm run playground`);
    process.exit(1);
  }
}

const has = (flag) => process.argv.includes(flag);
await (has("--size") ? size() : has("--playground") ? playground() : all());
