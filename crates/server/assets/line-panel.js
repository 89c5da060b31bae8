// The panel at the top: four jacks for the four steps of a connection, a cord plugged into the
// current one, and the same in words.

import { milliseconds } from './dom.js';

const TRANSPORTS = { websocket: 'WebSocket', sse: 'Server-Sent Events', poll: 'polling' };

const CLOSE_CODES = {
  1000: 'a normal close',
  1001: 'the server is going away',
  1002: 'a protocol error',
  1003: 'data of a kind the server does not take',
  1005: 'a close without a code',
  1006: 'the connection broke without a Close frame',
  1007: 'text that is not UTF-8',
  1008: 'against the rules of the server',
  1009: 'a message too big for the server',
  1010: 'an extension is missing',
  1011: 'an error inside the server',
  1012: 'the server restarts',
  1013: 'the server asks to try again later',
  4000: 'given up by this page',
  4008: 'this page read too slowly',
  4029: 'too much was sent',
  4401: 'not signed in, in time',
};

export class LinePanel {
  #panel = document.querySelector('#line');
  #field = document.querySelector('#jackfield');
  #cord = document.querySelector('#cord');
  #plug = document.querySelector('#plug');
  #words = document.querySelector('#line-words');
  #detail = document.querySelector('#line-detail');
  #close = document.querySelector('#close-words');
  #retry = document.querySelector('#retry');
  #countdown = document.querySelector('#countdown');
  #connect = document.querySelector('#connect');
  #disconnect = document.querySelector('#disconnect');
  #cut = document.querySelector('#cut');
  #transport = document.querySelector('#transport');
  #status;
  #roundTripMs = null;
  #counting = 0;

  constructor(line) {
    this.#status = line.status;
    const press = (button, act) => button.addEventListener('click', () => {
      if (button.getAttribute('aria-disabled') !== 'true') act();
    });
    press(this.#connect, () => line.connect());
    press(this.#disconnect, () => line.disconnect());
    press(this.#cut, () => line.cut());
    this.#transport.addEventListener('change', () => {
      const { value } = this.#transport;
      line.choose(value === 'any' ? undefined : [value]);
    });
    document.querySelector('#retry-now').addEventListener('click', () => line.retryNow());
    line.on('status', (status) => this.#show(status));
    line.on('round-trip', (ms) => { this.#roundTripMs = ms; this.#drawWords(); });
    new ResizeObserver(() => this.#drawCord()).observe(this.#field);
    this.#show(line.status);
  }

  #show(status) {
    this.#status = status;
    if (!status.ready) this.#roundTripMs = null;
    this.#panel.dataset.step = status.step;
    this.#panel.dataset.kind = kindOf(status);
    for (const step of this.#field.querySelectorAll('li')) {
      if (step.dataset.step === status.step) step.setAttribute('aria-current', 'step');
      else step.removeAttribute('aria-current');
    }
    write(this.#field.querySelector('li[data-step="closed"] .plate'), status.retry ? 'waiting' : 'closed');
    // Buttons that do not apply stay focusable: a focus that vanishes loses a keyboard user's place.
    const dialled = status.step !== 'closed' || status.retry !== null;
    this.#connect.setAttribute('aria-disabled', String(dialled));
    this.#disconnect.setAttribute('aria-disabled', String(!dialled || status.step === 'closing'));
    this.#cut.setAttribute('aria-disabled', String(!status.ready));
    this.#keepFocus();
    this.#drawWords();
    this.#drawCord();
    this.#drawRetry();
  }

  /** On a small screen only the button that applies is shown; the focus goes over to it. */
  #keepFocus() {
    const buttons = [this.#connect, this.#disconnect];
    if (!buttons.includes(document.activeElement)) return;
    if (document.activeElement.checkVisibility()) return;
    buttons.find((button) => button.checkVisibility())?.focus();
  }

  #drawWords() {
    const { step, session, user, transport } = this.#status;
    write(this.#words, headline(this.#status));
    const trip = this.#roundTripMs === null ? '' : `round trip ${milliseconds(this.#roundTripMs)}`;
    const details = [transport && `by ${TRANSPORTS[transport]}`, user && `you are ${user}`, session && `session ${session}`, trip];
    this.#detail.hidden = step !== 'open';
    details.forEach((words, at) => write(this.#detail.children[at], words || ''));
    write(this.#close, step === 'closing' || step === 'closed' ? closeWords(this.#status) : '');
    this.#close.hidden = this.#close.textContent === '';
  }

  #drawRetry() {
    const { retry } = this.#status;
    clearInterval(this.#counting);
    this.#retry.hidden = retry === null;
    if (retry === null) return;
    const draw = () => {
      const left = Math.max(0, retry.at - performance.now());
      write(this.#countdown.querySelector('span'), `attempt ${retry.attempt} in ${(left / 1_000).toFixed(1)} s`);
      this.#countdown.querySelector('progress').value = retry.delayMs > 0 ? left / retry.delayMs : 0;
    };
    draw();
    this.#counting = setInterval(draw, 100);
  }

  /** The cord hangs from this tab's post to the plug in the current jack, however wide the panel is. */
  #drawCord() {
    const field = this.#field.getBoundingClientRect();
    const centre = (selector) => {
      const box = this.#field.querySelector(selector).getBoundingClientRect();
      return { x: box.x - field.x + box.width / 2, y: box.y - field.y + box.height / 2 };
    };
    if (field.width === 0) return;
    const post = centre('.post');
    const jack = centre(`li[data-step="${this.#status.step}"] .jack`);
    const sag = field.height - 4;
    const reach = (jack.x - post.x) * 0.42;
    const d = `M${post.x} ${post.y}C${post.x + reach * 0.5} ${sag + 6} ${jack.x - reach * 0.6} ${sag + 6} ${jack.x} ${jack.y}`;
    this.#cord.setAttribute('d', d);
    this.#cord.style.setProperty('d', `path("${d}")`);
    this.#plug.style.setProperty('translate', `${jack.x}px ${jack.y}px`);
    requestAnimationFrame(() => this.#field.classList.add('drawn'));
  }
}

function kindOf({ step, ready, code, asked, retry }) {
  if (step === 'open') return ready ? 'live' : 'busy';
  if (step === 'connecting') return 'busy';
  if (step === 'closing') return 'ending';
  return !retry && (code === null || code === 1000 || asked) ? 'idle' : 'broken';
}

function headline({ step, ready, code, asked, retry }) {
  switch (step) {
    case 'connecting': return 'Connecting: waiting for the server to answer the handshake.';
    case 'open': return ready ? 'Open.' : 'Open: waiting for the welcome.';
    case 'closing': return asked ? 'Closing: waiting for the server’s Close.' : 'Closing.';
    default:
      if (retry) return 'Waiting: it comes back by itself.';
      if (code === null) return 'Not connected yet.';
      return asked ? 'Closed: you hung up.' : 'Closed.';
  }
}

/** The close code, what it means, and the reason that was given. */
export function closeWords({ code, reason }) {
  const meaning = code === null ? [] : [String(code), CLOSE_CODES[code]];
  return [...meaning, reason && `“${reason}”`].filter(Boolean).join(' · ');
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
