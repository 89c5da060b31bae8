// Who this tab is: the name it speaks under, and which messages it wrote.

import { stored } from './dom.js';

const NAMES = [
  'Ada', 'Boris', 'Carmen', 'Dov', 'Elif', 'Femi', 'Grace', 'Hana', 'Ivo', 'Jun', 'Kemi', 'Lena', 'Mika',
  'Nils', 'Olga', 'Pia', 'Quin', 'Rosa', 'Sami', 'Tove', 'Uma', 'Vera', 'Wim', 'Xenia', 'Yuki', 'Zoe',
];
const NAME_CHARACTERS_MAX = 40;
const USERS_MAX = 20;
const openedAt = Date.now();

export class Identity {
  // The server names every connection anew. Names of this page's own connections are ours for good;
  // those of earlier pages in this tab only in what was written before this page was opened, because
  // a duplicated tab inherits them.
  #users = new Set();
  #earlierUsers = new Set(stored.read(sessionStorage, 'users', []));

  constructor(wanted) {
    const kept = stored.read(sessionStorage, 'name', null) ?? stored.read(localStorage, 'name', null);
    this.name = clean(wanted ?? '') || clean(String(kept ?? '')) || anyName();
    stored.write(sessionStorage, 'name', this.name);
    if (kept === null && !wanted) stored.write(localStorage, 'name', this.name);
  }

  /** Returns the name as it was taken: trimmed, bounded, never empty. */
  rename(name) {
    this.name = clean(name) || this.name;
    stored.write(sessionStorage, 'name', this.name);
    stored.write(localStorage, 'name', this.name);
    return this.name;
  }

  welcome(user) {
    this.#users.add(user);
    const all = [...this.#earlierUsers, ...this.#users].slice(-USERS_MAX);
    stored.write(sessionStorage, 'users', all);
  }

  wrote(message) {
    return this.#users.has(message.from) || (this.#earlierUsers.has(message.from) && message.at < openedAt);
  }
}

/** A name for a second tab, so that the two can be told apart. */
export function anotherName(name) {
  return anyName(NAMES.filter((other) => other !== name));
}

function anyName(names = NAMES) {
  return names[Math.floor(Math.random() * names.length)];
}

function clean(name) {
  return [...name.replace(/\s+/g, ' ').trim()].slice(0, NAME_CHARACTERS_MAX).join('');
}
