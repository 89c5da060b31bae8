// What a peer received, in order, and the bounded wait for what it should receive next.

const WAIT_MS_MAX = 15_000;

export class Inbox {
  #name;
  #waiting = [];
  #queue = [];
  #log = [];

  constructor(name) {
    this.#name = name;
  }

  push(event) {
    this.#log.push(event);
    const index = this.#waiting.findIndex(({ matches }) => matches(event));
    if (index === -1) {
      this.#queue.push(event);
    } else {
      this.#waiting.splice(index, 1)[0].resolve(event);
    }
  }

  /** Takes the oldest event that matches, waiting for it if need be; the others stay. */
  take(what, matches) {
    const index = this.#queue.findIndex(matches);
    if (index !== -1) return Promise.resolve(this.#queue.splice(index, 1)[0]);
    return new Promise((resolve, reject) => {
      const waiter = {
        matches,
        resolve: (event) => {
          clearTimeout(timer);
          resolve(event);
        },
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        const received = this.#log.map((event) => JSON.stringify(event).slice(0, 200)).join('\n  ');
        reject(new Error(`${this.#name} waited ${WAIT_MS_MAX} ms for ${what} and received:\n  ${received}`));
      }, WAIT_MS_MAX);
      this.#waiting.push(waiter);
    });
  }
}
