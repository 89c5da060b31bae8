// What the tests of the client share: a server, clients for it, and patience.

import { Switchboard } from 'switchboard-client';
import WebSocket from 'ws';
export { Server } from '../../../conformance/browser/server.mjs';

const SOON_MS = 20_000;

/** What comes within the time that a busy machine may take. */
export async function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain: ${what}`)), SOON_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks until there is something to see. */
export async function eventually(what, look) {
  const deadline = Date.now() + SOON_MS;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((again) => setTimeout(again, 10));
  }
}

export const TRANSPORTS = ['websocket', 'sse', 'poll'];

/** A client that uses this transport alone, and comes back soon. */
export function client(server, transport, options = {}) {
  return new Switchboard(server.origin, {
    WebSocket,
    transports: [transport],
    backoff: { baseMs: 20, capMs: 200 },
    ...options,
  });
}

/** Waits until the connection is in this state. */
export function reaches(client, status) {
  if (client.state.status === status) return Promise.resolve(client.state);
  return soon(
    new Promise((resolve) => {
      const off = client.on('state', (state) => {
        if (state.status !== status) return;
        off();
        resolve(state);
      });
    }),
    `the state ${status}`,
  );
}

/** What a channel tells, in order: `['message', 7]`, `['gap', 3, 5]`, `['reset']`. */
export function hear(channel, options) {
  const heard = [];
  channel.on('gap', ({ from, to }) => heard.push(['gap', from, to]));
  channel.on('reset', () => heard.push(['reset']));
  channel.on('error', (error) => heard.push(['error', error.code]));
  const subscription = channel.subscribe(({ data }) => heard.push(['message', data]), options);
  return { heard, subscription };
}

export const messages = (heard) => heard.filter(([kind]) => kind === 'message').map(([, data]) => data);
export const count = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);
