// Python's `websockets` as a peer, in a process of its own: see `python.py`.
// The same methods and events as `node.js`.

import { spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { Inbox } from '../inbox.js';
import { Refused } from './refused.js';

const PYTHON = path.join(import.meta.dirname, '../.venv/websockets/bin/python');
const PROGRAM = path.join(import.meta.dirname, 'python.py');

/** Connects, or rejects with `Refused`. Options: subprotocols, origin, deflate. */
export async function connectPython(t, url, { subprotocols = [], origin, deflate = true } = {}) {
  const options = subprotocols.flatMap((name) => ['--subprotocol', name]);
  if (origin !== undefined) options.push('--origin', origin);
  if (!deflate) options.push('--no-deflate');
  const child = spawn(PYTHON, [PROGRAM, url, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const peer = new PythonPeer(child);
  const opened = await peer.inbox.take('the handshake', (event) => 'open' in event || 'refused' in event);
  if ('refused' in opened) throw new Refused(opened.refused);
  peer.subprotocol = opened.open;
  peer.extensions = opened.extensions;
  return peer;
}

class PythonPeer {
  inbox = new Inbox('websockets');
  #child;

  constructor(child) {
    this.#child = child;
    // A command to a peer that has ended is lost, as a frame to a closed connection is.
    child.stdin.on('error', () => {});
    child.on('error', (error) => this.inbox.push({ failed: error.message }));
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
      const event = JSON.parse(line);
      this.inbox.push('base64' in event ? { bytes: bytesOf(event.base64) } : event);
    });
  }

  sendText(text) {
    this.#command({ text });
  }

  sendBytes(bytes) {
    this.#command({ base64: Buffer.from(bytes).toString('base64') });
  }

  ping(payload) {
    this.#command({ ping: payload });
  }

  close(code, reason = '') {
    this.#command({ close: code, reason });
  }

  #command(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
  }
}

function bytesOf(base64) {
  return new Uint8Array(Buffer.from(base64, 'base64'));
}
