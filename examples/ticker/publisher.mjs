// Publishes prices of twenty symbols, eighty a second: node publisher.mjs [http://127.0.0.1:8000]

import { Switchboard } from 'switchboard-client';

const SYMBOLS = 'ACME BOLT CRUX DUNE ECHO FLUX GRID HALO IRIS JADE KITE LYNX MINT NOVA OPAL PIKE QUIL RUNE SAGE TERN'.split(' ');

// Node has a WebSocket of its own from version 22 on.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;
const client = new Switchboard(process.argv[2] ?? 'http://127.0.0.1:8000', { WebSocket });
const ticker = client.channel('ticker:stocks');
const stocks = SYMBOLS.map((symbol, index) => ({ symbol, open: 20 + index * 13, price: 20 + index * 13 }));

setInterval(() => {
  // An old price is worth nothing: what the network does not take now is not published later.
  if (!client.isOpen || client.bufferedAmount > 16_384) return;
  for (let round = 0; round < 4; round++) {
    const stock = stocks[Math.floor(Math.random() * stocks.length)];
    stock.price = Math.round(stock.price * (1 + (Math.random() - 0.5) / 200) * 100) / 100;
    // It is the newest state of its symbol: who cannot take every price gets the newest of each.
    ticker.publish(stock, { conflate: stock.symbol }).catch((error) => console.error(error.message));
  }
}, 50);

// It ends with who started it.
process.on('disconnect', () => process.exit());
