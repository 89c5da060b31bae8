// Serves one of the examples, and runs what belongs to it.
//
//   node run.mjs EXAMPLE [--url http://127.0.0.1:8000] [--port 5173] [--server]

import { execFileSync, fork, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const HERE = import.meta.dirname;
const ROOT = resolve(HERE, '..');
const PACKAGE = join(ROOT, 'sdk/js');
const SERVER = 'http://127.0.0.1:8000';
const PORT = 5173;

/** The examples that are pages. */
export const EXAMPLES = readdirSync(HERE).filter((name) => existsSync(join(HERE, name, 'index.html')));

/** Serves the page of an example and starts its publisher, if it has one. `port` 0 is any free one. */
export async function start(name, { url = SERVER, port = 0 } = {}) {
  buildPackage();
  const folder = join(HERE, name);
  const pages = createServer((request, response) => answer(folder, url, request, response));
  await new Promise((listening, failed) => pages.once('error', failed).listen(port, '127.0.0.1', listening));
  const program = join(folder, 'publisher.mjs');
  const publisher = existsSync(program) ? fork(program, [url]) : undefined;
  return {
    origin: `http://127.0.0.1:${pages.address().port}`,
    async close() {
      pages.closeAllConnections();
      await Promise.all([new Promise((closed) => { pages.close(closed); }), end(publisher)]);
    },
  };
}

/** Builds the client package, the first time. */
function buildPackage() {
  if (existsSync(join(PACKAGE, 'dist/react.js'))) return;
  console.log('building the package switchboard-client …');
  if (!existsSync(join(PACKAGE, 'node_modules'))) execFileSync('npm', ['ci'], { cwd: PACKAGE, stdio: 'inherit' });
  execFileSync(process.execPath, ['build.mjs'], { cwd: PACKAGE, stdio: 'inherit' });
}

async function answer(folder, url, request, response) {
  const { pathname } = new URL(request.url, 'http://page');
  const say = (status, type, body) => response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' }).end(body);
  try {
    if (pathname === '/') say(200, 'text/html', await readFile(join(folder, 'index.html')));
    else if (pathname === '/style.css') say(200, 'text/css', await readFile(join(HERE, 'style.css')));
    else if (pathname === '/main.js') say(200, 'text/javascript', await bundle(folder, url));
    else say(404, 'text/plain', 'there is no such page');
  } catch (error) {
    console.error(error.message);
    say(500, 'text/plain', error.message);
  }
}

/** Anew for every page, so that a reload shows what was changed. */
async function bundle(folder, url) {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    entryPoints: [['main.js', 'main.tsx'].map((file) => join(folder, file)).find(existsSync)],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    sourcemap: 'inline',
    logLevel: 'silent',
    // switchboard-client is a link to ../sdk/js, which has a React of its own; a page has one.
    alias: { react: join(HERE, 'node_modules/react') },
    define: { SWITCHBOARD_URL: JSON.stringify(url), 'process.env.NODE_ENV': '"development"' },
  });
  return outputFiles[0].text;
}

/** Ends a process that we started, and waits for that. */
async function end(child) {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => { child.once('exit', resolve); });
  child.kill('SIGTERM');
  await ended;
}

async function answers(url) {
  try {
    await (await fetch(url, { signal: AbortSignal.timeout(2_000) })).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** The server of this repository, built if it has to be. */
async function startServer() {
  console.log('starting the server: cargo run --release');
  const options = ['run', '--release', '--', 'serve', '--config', join(HERE, 'switchboard.toml')];
  const server = spawn('cargo', options, { cwd: ROOT, stdio: 'inherit' });
  let failure;
  server.once('error', (error) => { failure = error.message; });
  server.once('exit', (code, signal) => { failure = `it ended (${signal ?? code})`; });
  while (!await answers(SERVER)) {
    if (failure) throw new Error(`the server does not run: ${failure}`);
    await new Promise((again) => { setTimeout(again, 200); });
  }
  return server;
}

async function main() {
  const { values, positionals: [name] } = parseArgs({
    allowPositionals: true,
    options: { url: { type: 'string' }, port: { type: 'string' }, server: { type: 'boolean' } },
  });
  if (!EXAMPLES.includes(name)) {
    console.error(`usage: node run.mjs EXAMPLE [--url ${SERVER}] [--port ${PORT}] [--server]\n\nexamples: ${EXAMPLES.join(', ')}`);
    console.error('and: cargo run --release --package switchboard-client --example terminal-chat -- room:lobby NAME');
    process.exit(2);
  }
  if (!existsSync(join(HERE, 'node_modules'))) throw new Error('the packages are not there yet: npm install');
  if (values.server && values.url) throw new Error(`--server starts one at ${SERVER}; leave --url away`);
  const url = values.url ?? SERVER;

  const isThere = await answers(url);
  const server = values.server && !isThere ? await startServer() : undefined;
  if (!isThere && !server) {
    console.log(`No server answers at ${url}. Start one in the repository's root:\n\n    cargo run --release\n\nThe page connects as soon as it is there.\n`);
  }

  const example = await start(name, { url, port: Number(values.port ?? PORT) }).catch((error) => {
    if (error.code !== 'EADDRINUSE' || values.port) throw error;
    return start(name, { url });
  });
  console.log(`${name}: ${example.origin}/   (Ctrl+C ends it)`);
  const finish = async () => {
    await example.close();
    await end(server);
    process.exit();
  };
  process.once('SIGINT', finish).once('SIGTERM', finish);
}

if (process.argv[1] === import.meta.filename) {
  main().catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
}
