// The few things every view needs from the document.

/**
 * An element with attributes and children. Strings become text, never markup: most of what the page
 * shows was written by someone else. A `class`, `title` or `data-…` key sets that attribute.
 */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children);
  return node;
}

/** Runs `act` before the next paint, or soon in a tab that does not paint. */
export function beforePaint(act) {
  let done = false;
  const once = () => { if (!done) { done = true; act(); } };
  requestAnimationFrame(once);
  setTimeout(once, 120);
}

/** Gathers items and hands them over in one batch per paint; beyond `max` the oldest are dropped. */
export class Batch {
  #items = [];
  #max;
  #flush;

  constructor(max, flush) {
    this.#max = max;
    this.#flush = flush;
  }

  push(item) {
    this.#items.push(item);
    if (this.#items.length > this.#max) this.#items.shift();
    if (this.#items.length === 1) beforePaint(() => this.#flush(this.#items.splice(0)));
  }

  clear() {
    this.#items.length = 0;
  }
}

/** Runs `change`, keeping a list that was scrolled to its end there. Returns whether it was. */
export function keepingEnd(scroller, change) {
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
  change();
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  return atEnd;
}

export const stored = {
  read(storage, key, fallback) {
    try {
      return JSON.parse(storage.getItem(`switchboard.${key}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  write(storage, key, value) {
    try { storage.setItem(`switchboard.${key}`, JSON.stringify(value)); } catch { /* full or forbidden: not kept */ }
  },
};

/** Copies text; where the clipboard is closed to us, selects it so that the user can. */
export async function copyText(text, node) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return false;
  }
}

const numbers = new Intl.NumberFormat('en');

export function count(number, one, many = `${one}s`) {
  return `${numbers.format(number)} ${number === 1 ? one : many}`;
}

export function byteSize(bytes) {
  if (bytes < 1_000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(bytes < 10_000 ? 1 : 0)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

export function milliseconds(ms) {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

export function clock(at, parts = 'minutes') {
  const date = new Date(at);
  const two = (value) => String(value).padStart(2, '0');
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (parts === 'minutes') return minutes;
  return `${minutes}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** One of eight cord colours, the same for the same name everywhere. */
export function cordOf(name) {
  let hash = 0x811c9dc5;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return `cord-${(hash >>> 13) % 8}`;
}
