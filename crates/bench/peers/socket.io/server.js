// Rooms on Socket.IO, over the WebSocket transport alone.
//
//     node server.js PORT
'use strict';

const { createServer } = require('node:http');
const { Server } = require('socket.io');

const MESSAGE_BYTES_MAX = 1 << 20;
const BACKLOG_CONNECTIONS_MAX = 4096;

const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  maxHttpBufferSize: MESSAGE_BYTES_MAX,
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});

io.on('connection', (socket) => {
  socket.on('join', (room, joined) => {
    socket.join(room);
    joined();
  });
  socket.on('publish', (room, payload) => io.to(room).emit('m', payload));
  socket.on('echo', (payload) => socket.emit('m', payload));
});

http.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: BACKLOG_CONNECTIONS_MAX });
