// How to join the room on show from elsewhere, with this page's own address filled in.

import { copyText } from './dom.js';

/** Where the command line looks when it is told nothing. */
const DEFAULT_HOSTS = ['127.0.0.1:8000', 'localhost:8000'];

export class Terminal {
  #boxes = [...document.querySelectorAll('[data-recipe]')];
  #said = document.querySelector('#copied');

  constructor() {
    for (const box of this.#boxes) {
      const code = box.querySelector('code');
      const button = box.querySelector('button');
      button.addEventListener('click', async () => {
        const copied = await copyText(code.textContent, code);
        this.#said.textContent = copied ? 'Copied.' : 'Selected: copy it with your keyboard.';
        button.dataset.done = copied ? 'copied' : 'selected';
        setTimeout(() => { delete button.dataset.done; this.#said.textContent = ''; }, 1_600);
      });
    }
  }

  open(channel) {
    const recipes = recipesFor(channel, location);
    for (const box of this.#boxes) box.querySelector('code').textContent = recipes[box.dataset.recipe];
  }
}

/** `address` is a `Location`: its protocol and host say where this server is. */
export function recipesFor(channel, { protocol, host }) {
  const scheme = protocol === 'https:' ? 'wss:' : 'ws:';
  const url = `${scheme}//${host}/ws?channel=${encodeURIComponent(channel).replaceAll('%3A', ':')}`;
  const server = DEFAULT_HOSTS.includes(host) ? '' : ` --url ${scheme}//${host}/ws`;
  return {
    websocat: `websocat ${quoted(url)}`,
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
