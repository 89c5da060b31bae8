// Node's `ws` as a peer. Events in its inbox:
//   {text} {bytes} {pong} {closed: code, reason}

import WebSocket from 'ws';
import { Inbox } from '../inbox.js';
import { Refused } from './refused.js';

/** Connects, or rejects with `Refused`. Options: subprotocols, origin, deflate. */
export function connectNode(t, url, { subprotocols = [], origin, deflate = true } = {}) {
  const perMessageDeflate = deflate && { threshold: 0 };
  const socket = new WebSocket(url, subprotocols, { origin, perMessageDeflate });
  t.after(() => socket.terminate());
  const peer = new NodePeer(socket);
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve(peer));
    socket.once('unexpected-response', (request, response) => {
      request.destroy();
      reject(new Refused(response.statusCode));
    });
    socket.once('error', reject);
  });
}

class NodePeer {
  inbox = new Inbox('ws');
  #socket;

  constructor(socket) {
    this.#socket = socket;
    // An error is followed by `close` with code 1006, which the tests look at.
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) =>
      this.inbox.push(isBinary ? { bytes: new Uint8Array(data) } : { text: data.toString() }),
    );
    socket.on('pong', (payload) => this.inbox.push({ pong: payload.toString() }));
    socket.on('close', (code, reason) => this.inbox.push({ closed: code, reason: reason.toString() }));
  }

  get subprotocol() {
    return this.#socket.protocol;
  }

  get extensions() {
    return this.#socket.extensions;
  }

  sendText(text) {
    this.#socket.send(text);
  }

  sendBytes(bytes) {
    this.#socket.send(bytes);
  }

  /** Sends one text message as a frame for each part. */
  sendFragments(parts) {
    parts.forEach((part, index) => this.#socket.send(part, { fin: index === parts.length - 1 }));
  }

  ping(payload) {
    this.#socket.ping(payload);
  }

  close(code, reason) {
    this.#socket.close(code, reason);
  }
}
