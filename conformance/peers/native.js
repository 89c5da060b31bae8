// The native dialect over any peer: requests with their replies, and messages.

import { decode, encode } from '@msgpack/msgpack';

export const JSON_SUBPROTOCOL = 'switchboard.v1.json';
export const MSGPACK_SUBPROTOCOL = 'switchboard.v1.msgpack';

/** Speaks the dialect that was negotiated; no subprotocol means JSON. */
export class Native {
  #peer;
  #packed;
  #lastId = 0;

  constructor(peer) {
    this.#peer = peer;
    this.#packed = peer.subprotocol === MSGPACK_SUBPROTOCOL;
  }

  /** Sends a command with the next id and waits for the reply to it. */
  async request(command) {
    this.#lastId += 1;
    const id = this.#lastId;
    this.send({ ...command, id });
    return this.#take(`the reply to ${command.type}`, (frame) => frame.id === id);
  }

  send(command) {
    if (this.#packed) {
      this.#peer.sendBytes(encode(command));
    } else {
      this.#peer.sendText(JSON.stringify(command));
    }
  }

  /** The next frame that is a `message`, of whatever channel. */
  message() {
    return this.next('message');
  }

  next(type) {
    return this.#take(`a frame of type ${type}`, (frame) => frame.type === type);
  }

  async messages(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.message());
    return taken;
  }

  /** The close code and reason that the server sent. */
  closed() {
    return this.#peer.inbox.take('its close', (event) => 'closed' in event);
  }

  async #take(what, matches) {
    const event = await this.#peer.inbox.take(what, (received) => {
      const frame = this.#frame(received);
      return frame !== undefined && matches(frame);
    });
    return this.#frame(event);
  }

  #frame(event) {
    if (this.#packed) return event.bytes && decode(event.bytes);
    return event.text === undefined ? undefined : JSON.parse(event.text);
  }
}
