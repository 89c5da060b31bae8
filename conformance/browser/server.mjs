// A switchboard of our own: the built binary on free ports, started, waited for, and stopped.

import { spawn } from 'node:child_process';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const BINARY = process.env.SERVER_UNDER_TEST
  ? resolve(process.env.SERVER_UNDER_TEST)
  : resolve(import.meta.dirname, '../../target/debug/switchboard');
const READY_MS_MAX = 20_000;
const STOP_MS_MAX = 20_000;
const OUTPUT_CHARACTERS_MAX = 16_000;

export class Server {
  #process = null;
  #directory;
  #output = '';

  constructor(port, internalPort, directory, environment) {
    this.environment = environment;
    this.port = port;
    this.internalPort = internalPort;
    this.origin = `http://127.0.0.1:${port}`;
    this.#directory = directory;
  }

  /** `environment`: settings, as SWITCHBOARD_SECTION__KEY. */
  static async start(environment = {}) {
    await access(BINARY).catch(() => {
      throw new Error(`no server at ${BINARY}: run \`cargo build\`, or set SERVER_UNDER_TEST`);
    });
    const [port, internalPort] = await freePorts();
    const server = new Server(port, internalPort, await mkdtemp(join(tmpdir(), 'switchboard-browser-')), environment);
    await server.start();
    return server;
  }

  /** Starts the binary, on the same ports each time, and waits until it serves the page. */
  async start() {
    const listen = ['--listen', `127.0.0.1:${this.port}`, '--internal-listen', `127.0.0.1:${this.internalPort}`];
    const child = spawn(BINARY, ['serve', ...listen], {
      cwd: this.#directory,
      env: { ...process.env, ...this.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => { this.#output = (this.#output + bytes).slice(-OUTPUT_CHARACTERS_MAX); });
    }
    const failed = new Promise((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(this.#failure(`the server ended (${signal ?? code}) before it was ready`)));
    });
    failed.catch(() => {});
    await Promise.race([this.#ready(), failed]);
  }

  async #ready() {
    const deadline = Date.now() + READY_MS_MAX;
    while (Date.now() < deadline) {
      try {
        const response = await fetch(`${this.origin}/`, { signal: AbortSignal.timeout(2_000) });
        await response.arrayBuffer();
        if (response.ok) return;
      } catch { /* not yet */ }
      await new Promise((again) => { setTimeout(again, 50); });
    }
    throw this.#failure('the server did not serve its page in time');
  }

  /** Asks the server to end and waits until it has. */
  async stop() {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => { child.once('exit', () => resolve(true)); });
    child.kill('SIGTERM');
    const late = new Promise((resolve) => { setTimeout(resolve, STOP_MS_MAX, false).unref(); });
    if (await Promise.race([ended, late])) return;
    child.kill('SIGKILL');
    await ended;
    throw this.#failure(`the server did not end within ${STOP_MS_MAX} ms of SIGTERM`);
  }

  /** Ends it as a crash would. */
  async kill() {
    const child = this.#process;
    this.#process = null;
    const ended = new Promise((resolve) => { child.once('exit', resolve); });
    child.kill('SIGKILL');
    await ended;
  }

  async remove() {
    await this.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }

  #failure(words) {
    return new Error(`${words}. Its output:\n${this.#output}`);
  }
}

/** Two ports that nobody listens on: both are held until both are known. */
async function freePorts() {
  const holders = [createServer(), createServer()];
  const ports = [];
  for (const holder of holders) {
    await new Promise((resolve, reject) => holder.once('error', reject).listen(0, '127.0.0.1', resolve));
    ports.push(holder.address().port);
  }
  for (const holder of holders) await new Promise((resolve) => { holder.close(resolve); });
  return ports;
}
