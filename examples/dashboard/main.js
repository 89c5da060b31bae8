// A dashboard: one channel for each figure. Its log draws the chart, and what comes goes on with it.

import { Switchboard } from 'switchboard-client';
import { showConnection } from '../shared.js';

const POINTS = 120;
const SLOTS_MIN = 30;
const [WIDTH, HEIGHT] = [600, 110];
const METRICS = [
  { name: 'requests', title: 'Requests', unit: 'per second', digits: 0 },
  { name: 'latency', title: 'Latency', unit: 'ms', digits: 1 },
  { name: 'errors', title: 'Errors', unit: '%', digits: 2 },
  { name: 'visitors', title: 'Visitors', unit: 'now', digits: 0 },
];

// SWITCHBOARD_URL is where the server is; the runner puts it in.
const client = new Switchboard(SWITCHBOARD_URL);
showConnection(client);
METRICS.forEach(show);

async function show({ name, title, unit, digits }) {
  const card = document.createElement('figure');
  card.className = 'card';
  card.dataset.metric = name;
  card.innerHTML = `<h2></h2><span class="soft small range number"></span><p class="number"><span>–</span> <small></small></p>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"><path class="area"/><path class="line"/></svg>`;
  const at = (selector) => card.querySelector(selector);
  at('h2').textContent = title;
  at('small').textContent = unit;
  at('svg').setAttribute('aria-label', `${title}, the last ${POINTS} figures`);
  document.getElementById('charts').append(card);

  const words = (value) => value.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  let points = [];
  const add = (...messages) => {
    points = [...points, ...messages.map(({ data }) => data)].slice(-POINTS);
    if (points.length) draw();
  };
  const draw = () => {
    const [least, most] = [Math.min(...points), Math.max(...points)];
    at('p span').textContent = words(points.at(-1));
    at('.range').textContent = `${words(least)} to ${words(most)}`;
    // The newest point is at the right edge; a little air above and below.
    const slots = Math.max(points.length, SLOTS_MIN) - 1;
    const line = points.map((value, index) => {
      const x = WIDTH - (points.length - 1 - index) * (WIDTH / slots);
      const y = HEIGHT - 6 - ((value - least) / (most - least || 1)) * (HEIGHT - 12);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    });
    const left = line[0].split(',')[0];
    at('.line').setAttribute('d', `M${line.join('L')}`);
    at('.area').setAttribute('d', `M${line.join('L')}L${WIDTH},${HEIGHT}L${left},${HEIGHT}Z`);
  };

  const channel = client.channel(`metrics:${name}`);
  // A server that has begun anew counts from nothing.
  channel.on('reset', () => { points = []; });
  // Only a WebSocket can ask for the log; others begin now.
  const past = await channel.history({ limit: POINTS }).catch(() => ({ messages: [] }));
  add(...past.messages);
  channel.subscribe((message) => add(message), { since: past.position });
}
