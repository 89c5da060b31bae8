// websocat as a person uses it: lines typed in, lines printed.
// Events in its inbox: {line} {ended: exit status}

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { Inbox } from '../inbox.js';

const BUILT = path.join(import.meta.dirname, '../../../target/peers/bin/websocat');

/** Starts websocat. It tells nobody when it is connected: wait for what it does. */
export function startWebsocat(t, url, options = []) {
  const child = spawn(fs.existsSync(BUILT) ? BUILT : 'websocat', [...options, url], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill());
  return new Websocat(child);
}

class Websocat {
  inbox = new Inbox('websocat');
  #child;

  constructor(child) {
    this.#child = child;
    child.stdin.on('error', () => {});
    child.on('exit', (status, signal) => this.inbox.push({ ended: signal ?? status }));
    readline.createInterface({ input: child.stdout }).on('line', (line) => this.inbox.push({ line }));
  }

  type(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  async line() {
    return (await this.inbox.take('a line', (event) => 'line' in event)).line;
  }

  async ended() {
    return (await this.inbox.take('its end', (event) => 'ended' in event)).ended;
  }
}
