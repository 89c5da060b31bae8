// Publishes made-up figures of a web shop, four times a second: node publisher.mjs [http://127.0.0.1:8000]

import { Switchboard } from 'switchboard-client';

// Node has a WebSocket of its own from version 22 on.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;
const client = new Switchboard(process.argv[2] ?? 'http://127.0.0.1:8000', { WebSocket });

const metrics = [
  { name: 'requests', value: 420, least: 50, most: 900 },
  { name: 'latency', value: 38, least: 8, most: 140 },
  { name: 'errors', value: 0.6, least: 0, most: 4 },
  { name: 'visitors', value: 1_850, least: 400, most: 4_000 },
];

setInterval(() => {
  if (!client.isOpen) return;
  for (const metric of metrics) {
    const step = (Math.random() - 0.5) * 0.06 * (metric.most - metric.least);
    metric.value = Math.min(Math.max(metric.value + step, metric.least), metric.most);
    client.publish(`metrics:${metric.name}`, Number(metric.value.toPrecision(4))).catch((error) => console.error(error.message));
  }
}, 250);

// It ends with who started it.
process.on('disconnect', () => process.exit());
