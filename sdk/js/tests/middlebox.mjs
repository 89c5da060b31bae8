// What stands between a client and its server in some networks: refuses WebSockets, swallows their frames, keeps what it should
// pass on, cuts connections.

import { createServer, request } from 'node:http';
import { connect } from 'node:net';

export class Middlebox {
  /** Of WebSockets: `pass`, `refuse` (403), `swallow` (101, and then nothing), `cut`. */
  websocket = 'pass';
  /** Of event streams: `pass`, `refuse`, `keep` (the head, and then nothing). */
  sse = 'pass';
  /** Of polls: `pass`, `refuse`. */
  poll = 'pass';
  /** How often each was asked for. */
  asked = { websocket: 0, sse: 0, poll: 0, publish: 0 };
  #sockets = new Set();
  #server;

  static async start(target) {
    const box = new Middlebox();
    box.target = new URL(target);
    box.#server = createServer((incoming, answer) => box.#forward(incoming, answer));
    box.#server.on('upgrade', (incoming, socket, head) => box.#upgrade(incoming, socket, head));
    box.#server.on('connection', (socket) => {
      box.#sockets.add(socket);
      socket.on('close', () => box.#sockets.delete(socket));
      socket.on('error', () => {});
    });
    await new Promise((listening) => box.#server.listen(0, '127.0.0.1', listening));
    box.origin = `http://127.0.0.1:${box.#server.address().port}`;
    return box;
  }

  /** Cuts all connections. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop() {
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
  }

  #forward(incoming, answer) {
    const name = new URL(incoming.url, this.origin).pathname.slice(1);
    if (name in this.asked) this.asked[name]++;
    const mode = this[name] ?? 'pass';
    if (mode === 'refuse') {
      answer.writeHead(403).end('not here');
      return;
    }
    const { hostname, port } = this.target;
    const forwarded = request({ hostname, port, path: incoming.url, method: incoming.method, headers: incoming.headers });
    forwarded.on('response', (response) => {
      answer.writeHead(response.statusCode, response.headers);
      answer.flushHeaders();
      if (mode === 'keep') response.resume();
      else response.pipe(answer);
      response.on('error', () => answer.destroy());
    });
    forwarded.on('error', () => answer.destroy());
    answer.on('close', () => forwarded.destroy());
    incoming.pipe(forwarded);
  }

  #upgrade(incoming, socket, head) {
    this.asked.websocket++;
    const mode = this.websocket;
    if (mode === 'refuse') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    if (mode === 'cut') return socket.destroy();
    const { hostname, port } = this.target;
    const upstream = connect(Number(port), hostname);
    this.#sockets.add(upstream);
    const lines = [`GET ${incoming.url} HTTP/1.1`];
    for (let index = 0; index < incoming.rawHeaders.length; index += 2) {
      lines.push(`${incoming.rawHeaders[index]}: ${incoming.rawHeaders[index + 1]}`);
    }
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    upstream.write(head);
    const end = () => {
      socket.destroy();
      upstream.destroy();
      this.#sockets.delete(upstream);
    };
    for (const either of [socket, upstream]) either.on('close', end).on('error', end);
    if (mode === 'pass') {
      socket.pipe(upstream).pipe(socket);
      return;
    }
    // Only the answer to the handshake comes through.
    upstream.once('data', (bytes) => socket.write(bytes.subarray(0, bytes.indexOf('\r\n\r\n') + 4)));
    socket.resume();
  }
}
