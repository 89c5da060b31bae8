// Messages per second in and out over the last minute, and what went over the line in total.

import { byteSize } from './dom.js';

const SECONDS = 60;
const WIDTH = 240;
const HEIGHT = 80;
const CEILINGS = [5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 50_000];

export class Rate {
  #chart = document.querySelector('#chart');
  #words = document.querySelector('#chart-words');
  #ceiling = document.querySelector('#chart-ceiling');
  #cursor = document.querySelector('#chart-cursor');
  #bins = { in: new Array(SECONDS + 1).fill(0), out: new Array(SECONDS + 1).fill(0) };
  #second = now();
  #pointed = null;
  #totals = { messages: { in: 0, out: 0 }, frames: { in: 0, out: 0 }, bytes: { in: 0, out: 0 } };

  constructor() {
    this.#chart.addEventListener('pointermove', (event) => this.#point(event));
    this.#chart.addEventListener('pointerleave', () => { this.#pointed = null; this.draw(); });
    this.draw();
  }

  /** A frame as the line emits it. A message in is a delivery, a message out a publication. */
  add({ direction, bytes, value }) {
    this.#totals.frames[direction] += 1;
    this.#totals.bytes[direction] += bytes;
    if (value?.type !== (direction === 'in' ? 'message' : 'publish')) return;
    this.#advance();
    this.#totals.messages[direction] += 1;
    this.#bins[direction][SECONDS] += 1;
  }

  /** Called once a second. The running second is counted but not drawn: it is not over. */
  draw() {
    this.#advance();
    const shown = { in: this.#bins.in.slice(0, SECONDS), out: this.#bins.out.slice(0, SECONDS) };
    const peak = Math.max(...shown.in, ...shown.out);
    const ceiling = CEILINGS.find((step) => step > peak) ?? peak;
    this.#ceiling.textContent = `${ceiling}/s`;
    for (const direction of ['in', 'out']) {
      const line = path(shown[direction], ceiling);
      this.#chart.querySelector(`.curve.${direction}`).setAttribute('d', line);
      this.#chart.querySelector(`.area.${direction}`).setAttribute('d', `${line}V${HEIGHT}H0Z`);
      write(`#rate-${direction}`, String(shown[direction][SECONDS - 1]));
    }
    this.#drawWords(shown);
    this.#drawTotals();
  }

  #advance() {
    const passed = Math.min(now() - this.#second, SECONDS + 1);
    if (passed <= 0) return;
    this.#second = now();
    for (const bins of Object.values(this.#bins)) {
      bins.splice(0, passed);
      bins.push(...new Array(passed).fill(0));
    }
  }

  #point(event) {
    const { left, width } = this.#chart.getBoundingClientRect();
    const at = Math.round(((event.clientX - left) / width) * (SECONDS - 1));
    this.#pointed = Math.min(SECONDS - 1, Math.max(0, at));
    this.draw();
  }

  #drawWords(shown) {
    const at = this.#pointed;
    this.#cursor.classList.toggle('on', at !== null);
    if (at === null) {
      const busiest = (direction) => Math.max(...shown[direction]);
      this.#words.textContent = `last 60 s, busiest: ${busiest('in')} in, ${busiest('out')} out`;
      this.#chart.setAttribute('aria-label', `Messages per second over the last minute. Now ${shown.in[SECONDS - 1]} in, ${shown.out[SECONDS - 1]} out. Busiest second ${busiest('in')} in, ${busiest('out')} out.`);
      return;
    }
    const x = (at / (SECONDS - 1)) * WIDTH;
    this.#cursor.setAttribute('d', `M${x} 0V${HEIGHT}`);
    this.#words.textContent = `${SECONDS - at} s ago: ${shown.in[at]} in, ${shown.out[at]} out`;
  }

  #drawTotals() {
    const { messages, frames, bytes } = this.#totals;
    for (const direction of ['in', 'out']) {
      write(`#total-messages-${direction}`, messages[direction].toLocaleString('en'));
      write(`#total-frames-${direction}`, frames[direction].toLocaleString('en'));
      write(`#total-bytes-${direction}`, byteSize(bytes[direction]));
    }
  }
}

function now() {
  return Math.floor(performance.now() / 1_000);
}

function path(values, ceiling) {
  const points = values.map((value, at) => {
    const x = (at / (SECONDS - 1)) * WIDTH;
    const y = HEIGHT - (value / ceiling) * HEIGHT;
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  return `M${points.join('L')}`;
}

function write(selector, text) {
  const node = document.querySelector(selector);
  if (node.textContent !== text) node.textContent = text;
}

const LOAD_PER_SECOND = 20;
const LOAD_SECONDS = 5;

/** The load button: a bounded stream of test messages into the room on show. */
export class Load {
  #button = document.querySelector('#load');
  #words = document.querySelector('#load-words');
  #line;
  #message;
  #timer = 0;
  #sent = 0;
  #answers = [];
  #refused = 0;

  /** `message` returns `{channel, data}` for the next test message. */
  constructor(line, message) {
    this.#line = line;
    this.#message = message;
    this.#button.addEventListener('click', () => (this.#timer ? this.#end() : this.#start()));
    line.on('status', ({ ready }) => {
      this.#button.setAttribute('aria-disabled', String(!ready));
      if (!ready) this.#end();
    });
  }

  #start() {
    if (!this.#line.status.ready) return;
    this.#sent = 0;
    this.#refused = 0;
    this.#answers = [];
    this.#timer = setInterval(() => this.#tick(), 1_000 / LOAD_PER_SECOND);
    this.#button.textContent = 'Stop';
  }

  #end() {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#button.textContent = `Send ${LOAD_PER_SECOND} messages/s for ${LOAD_SECONDS} s`;
  }

  async #tick() {
    this.#sent += 1;
    const last = this.#sent >= LOAD_PER_SECOND * LOAD_SECONDS;
    if (last) this.#end();
    const sentAt = performance.now();
    try {
      const { channel, data } = this.#message(this.#sent);
      await this.#line.client.publish(channel, data);
      this.#answers.push(performance.now() - sentAt);
    } catch {
      this.#refused += 1;
    }
    this.#say();
  }

  #say() {
    const sorted = this.#answers.toSorted((one, other) => one - other);
    const middle = sorted[Math.floor(sorted.length / 2)];
    const parts = [`${this.#answers.length} acknowledged`];
    if (middle !== undefined) parts.push(`median ${middle.toFixed(1)} ms`);
    if (this.#refused > 0) parts.push(`${this.#refused} refused`);
    this.#words.textContent = parts.join(', ');
  }
}
