// Rooms on Node's `ws`, written as its README writes a broadcast: one `send` per
// member. `ws` has no public way to frame a message once for many sockets.
//
//     node server.js PORT
'use strict';

const { WebSocket, WebSocketServer } = require('ws');

const MESSAGE_BYTES_MAX = 1 << 20;
const BACKLOG_CONNECTIONS_MAX = 4096;

/** @type {Map<string, Set<WebSocket>>} */
const rooms = new Map();

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  backlog: BACKLOG_CONNECTIONS_MAX,
  maxPayload: MESSAGE_BYTES_MAX,
  perMessageDeflate: false,
  clientTracking: false,
});

server.on('connection', (socket, request) => {
  socket.on('error', () => {}); // `close` follows
  if (request.url === '/echo') {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    return;
  }
  const [, room, publish] = /^\/room\/([^/]+)(\/publish)?$/.exec(request.url) ?? [];
  if (room === undefined) {
    socket.close(1008, 'no such path');
    return;
  }
  const members = membersOf(room);
  if (!publish) {
    members.add(socket);
    socket.on('close', () => members.delete(socket));
  }
  socket.on('message', (data, isBinary) => {
    const options = { binary: isBinary };
    for (const member of members) {
      if (member.readyState === WebSocket.OPEN) {
        member.send(data, options);
      }
    }
  });
});

function membersOf(room) {
  let members = rooms.get(room);
  if (members === undefined) {
    members = new Set();
    rooms.set(room, members);
  }
  return members;
}
