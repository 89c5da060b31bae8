// The server under test: a process of its own on free ports, one for each test.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = path.resolve(import.meta.dirname, '../..');
const BINARY = path.resolve(ROOT, process.env.SERVER_UNDER_TEST ?? 'target/debug/switchboard');
const TEST_MS_MAX = 120_000;
const START_MS_MAX = 10_000;
const STOP_MS_MAX = 20_000;
const OUTPUT_CHARACTERS_MAX = 4000;

/**
 * A test with a server of its own, which must stop well for the test to pass.
 * What the body hands to `t.after` is undone before, the latest first, so that
 * the server is not asked to stop while peers are connected.
 */
export function serverTest(name, body) {
  test(name, { timeout: TEST_MS_MAX }, async (context) => {
    const server = await Server.start();
    const undo = [];
    try {
      await body({ after: (step) => undo.push(step) }, server);
      while (undo.length > 0) undo.pop()();
      await server.stop();
    } catch (error) {
      context.diagnostic(`the server said:\n${server.output}`);
      throw error;
    } finally {
      while (undo.length > 0) undo.pop()();
      server.kill();
    }
  });
}

class Server {
  output = '';
  #child;
  #exited;

  /** Starts the binary and waits until it listens. */
  static async start() {
    const [port, internalPort] = await freePorts(2);
    const listen = ['--listen', `127.0.0.1:${port}`, '--internal-listen', `127.0.0.1:${internalPort}`];
    const server = new Server(spawn(BINARY, ['serve', ...listen], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] }), port);
    const deadline = Date.now() + START_MS_MAX;
    while (!(await accepts(port))) {
      const ended = await Promise.race([server.#exited, sleep(50, 'still running')]);
      assert.equal(ended, 'still running', `the server ended with ${ended} at its start:\n${server.output}`);
      if (Date.now() > deadline) {
        server.kill();
        assert.fail(`nothing listens after ${START_MS_MAX} ms:\n${server.output}`);
      }
    }
    return server;
  }

  constructor(child, port) {
    this.port = port;
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', (status, signal) => resolve(signal ?? status));
      child.once('error', (error) => resolve(error.message));
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.output = (this.output + text).slice(-OUTPUT_CHARACTERS_MAX);
      });
    }
  }

  url(target) {
    return `ws://127.0.0.1:${this.port}${target}`;
  }

  /** Asks the server to stop, without waiting for it. */
  terminate() {
    this.#child.kill('SIGTERM');
  }

  /** Stops the server; anything but exit status 0 in good time is an error. */
  async stop() {
    this.terminate();
    const timer = setTimeout(() => this.kill(), STOP_MS_MAX);
    const status = await this.#exited;
    clearTimeout(timer);
    assert.equal(status, 0, `the server ended with ${status} on SIGTERM`);
  }

  kill() {
    this.#child.kill('SIGKILL');
  }
}

async function accepts(port) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function freePorts(count) {
  const holders = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'));
  await Promise.all(holders.map((holder) => once(holder, 'listening')));
  const ports = holders.map((holder) => holder.address().port);
  await Promise.all(holders.map((holder) => once(holder.close(), 'close')));
  return ports;
}
