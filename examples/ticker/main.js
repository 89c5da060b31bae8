// A ticker: the newest price of each symbol, first from the log, then as they come.

import { Switchboard } from 'switchboard-client';
import { showConnection } from '../shared.js';

const CHANNEL = 'ticker:stocks';

const at = (id) => document.getElementById(id);
// SWITCHBOARD_URL is where the server is; the runner puts it in.
const client = new Switchboard(SWITCHBOARD_URL);
showConnection(client);

const newest = new Map();     // stocks whose price is not shown yet, by symbol
const rows = new Map();
let count = 0;
let position;                 // how far we have read
let stop;

/** Goes on behind `position`; without one, from now on. */
function follow() {
  const ticker = client.channel(CHANNEL);
  const offs = [
    ticker.on('message', ({ data }) => {
      count++;
      newest.set(data.symbol, data);
    }),
    ticker.on('gap', ({ from, to, conflated }) => {
      at('skipped').textContent = `${to - from + 1} prices ${conflated ? 'skipped: the newest of each symbol came' : 'are not in the log any more'}`;
    }),
  ];
  // latest: where prices cannot be had one by one, only the newest of each conflation key.
  const subscription = ticker.subscribe({ since: position, latest: true });
  stop = () => {
    position = ticker.position;
    subscription.unsubscribe();
    for (const off of offs) off();
    stop = undefined;
  };
}

at('pause').addEventListener('click', () => {
  if (stop) stop();
  else follow();
  at('pause').textContent = stop ? 'Pause' : 'Go on';
});

/** Draws once for each frame of the screen, however many prices came. */
function draw() {
  for (const { symbol, price, open } of newest.values()) {
    const row = rows.get(symbol) ?? addRow(symbol);
    const percent = (price / open - 1) * 100;
    row.price.textContent = price.toFixed(2);
    row.change.textContent = `${percent < 0 ? '▾' : '▴'} ${Math.abs(percent).toFixed(2)} %`;
    row.change.className = percent < 0 ? 'change down' : 'change up';
    if (row.last !== undefined && row.last !== price) {
      const colour = getComputedStyle(document.body).getPropertyValue(price < row.last ? '--broken' : '--live');
      row.price.animate([{ color: colour }, {}], 600);
    }
    row.last = price;
  }
  newest.clear();
  requestAnimationFrame(draw);
}

function addRow(symbol) {
  const item = document.createElement('li');
  item.className = 'card';
  item.dataset.symbol = symbol;
  item.innerHTML = '<strong></strong><span class="change"></span><span class="number"></span>';
  const [name, change, price] = item.children;
  name.textContent = symbol;
  const after = [...at('stocks').children].find((other) => other.dataset.symbol > symbol);
  at('stocks').insertBefore(item, after ?? null);
  const row = { price, change };
  rows.set(symbol, row);
  return row;
}

setInterval(() => {
  at('rate').textContent = `${count} prices in the last second`;
  count = 0;
}, 1_000);
requestAnimationFrame(draw);

// The state, then the stream. Only a WebSocket can ask for the first; others begin now.
const state = await client.channel(CHANNEL).history({ latest: true, limit: 1_000 }).catch(() => ({ messages: [] }));
for (const { data } of state.messages) newest.set(data.symbol, data);
position = state.position;
follow();
