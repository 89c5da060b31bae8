// How to join the room on show from elsewhere, with this page's own address filled in.

import { copyText } from './dom.js';

/** Where the command line looks when it is told nothing. */
const DEFAULT_HOSTS = ['127.0.0.1:8000', 'localhost:8000'];

const WORDS = {
  websocat: 'Each line you type is published, each message is printed.',
  curl: 'Prints every message as a Server-Sent Event.',
  listen: 'Prints every message of the room.',
  publish: 'With - in place of hello, each line of standard input is published.',
  browser: 'For the console of this page or any page from this machine.',
};

export class Terminal {
  #tabs = [...document.querySelectorAll('#recipes [role="tab"]')];
  #panel = document.querySelector('#recipe');
  #code = document.querySelector('#recipe code');
  #words = document.querySelector('#recipe-words');
  #copy = document.querySelector('#copy');
  #copied = document.querySelector('#copied');
  #chosen = 'websocat';
  #recipes = {};

  constructor() {
    for (const tab of this.#tabs) {
      tab.addEventListener('click', () => this.#choose(tab));
      tab.addEventListener('keydown', (event) => this.#walk(event));
    }
    this.#copy.addEventListener('click', () => this.#copyChosen());
  }

  open(channel) {
    this.#recipes = recipesFor(channel, location);
    this.#draw();
  }

  #choose(tab) {
    this.#chosen = tab.dataset.recipe;
    for (const other of this.#tabs) {
      other.setAttribute('aria-selected', String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    this.#panel.setAttribute('aria-labelledby', tab.id);
    this.#draw();
  }

  /** Arrow keys walk along the tabs, as in any tab list. */
  #walk(event) {
    const at = this.#tabs.indexOf(event.currentTarget);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.#tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = this.#tabs.at(to % this.#tabs.length);
    tab.focus();
    this.#choose(tab);
  }

  #draw() {
    this.#code.textContent = this.#recipes[this.#chosen];
    this.#words.textContent = WORDS[this.#chosen];
  }

  async #copyChosen() {
    const copied = await copyText(this.#code.textContent, this.#code);
    this.#copied.textContent = copied ? 'Copied.' : 'Selected: copy it with your keyboard.';
    this.#copy.dataset.done = copied ? 'copied' : 'selected';
    setTimeout(() => { delete this.#copy.dataset.done; this.#copied.textContent = ''; }, 1_600);
  }
}

/** `address` is a `Location`: its protocol and host say where this server is. */
export function recipesFor(channel, { protocol, host }) {
  const scheme = protocol === 'https:' ? 'wss:' : 'ws:';
  const query = `?channel=${encodeURIComponent(channel).replaceAll('%3A', ':')}`;
  const url = `${scheme}//${host}/ws${query}`;
  const server = DEFAULT_HOSTS.includes(host) ? '' : ` --url ${scheme}//${host}/ws`;
  return {
    websocat: `websocat ${quoted(url)}`,
    curl: `curl -N ${quoted(`${protocol}//${host}/sse${query}`)}`,
    listen: `switchboard listen${server} ${quoted(channel)}`,
    publish: `switchboard publish${server} ${quoted(channel)} hello`,
    browser: [
      `const line = new WebSocket(${JSON.stringify(url)})`,
      'line.onmessage = ({ data }) => console.log(data)',
      "line.onopen = () => line.send('hello')",
    ].join('\n'),
  };
}

/** Quoted for a shell unless it needs no quotes; `?` would be a pattern to some. */
function quoted(word) {
  return /^[\w:./@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
