import type { Command, ServerEvent } from "../protocol.js";
import { SILENCE, type Context, type Transport } from "../transport.js";

const SUBPROTOCOL = "switchboard.v1.json";
/** What the server is given to answer after a wake-up. */
const CHECK_MS = 5_000;

/** A WebSocket. */
export function webSocket(context: Context): Transport {
  const { token, resume, patienceMs } = context;
  let socket: WebSocket | undefined;
  let heartbeatMs = 25_000;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;

  const end = (reason: string, code?: number): void => {
    if (ended) return;
    transport.close();
    context.end({ reason, code });
  };
  const send = (command: Command): void => {
    if (socket?.readyState !== 1) return;
    context.said(command);
    socket.send(JSON.stringify(command));
  };
  // Whatever comes shows that the server is there; nothing for a while, and it is asked.
  const watch = (silenceMs: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => ask(patienceMs), silenceMs);
  };
  const ask = (answerMs: number): void => {
    send({ type: "ping", id: 0 });
    clearTimeout(timer);
    timer = setTimeout(() => end("silent"), answerMs);
  };

  const transport: Transport = {
    name: "websocket",
    start(subscribe) {
      try {
        const url = context.base.replace(/^http/, "ws") + "ws";
        // Where there is none, this fails, too.
        socket = new context.WebSocket!(url, SUBPROTOCOL);
      } catch (error) {
        return queueMicrotask(() => end(String(error)));
      }
      socket.onopen = () => {
        send({ type: "connect", token, resume });
        subscribe.forEach(send);
      };
      socket.onmessage = ({ data }) => {
        if (ended) return;
        let event: ServerEvent;
        try {
          event = JSON.parse(data as string) as ServerEvent;
        } catch {
          return end("not JSON");
        }
        // What means nothing shows at least that somebody is there.
        if (typeof event !== "object" || !event) return watch(heartbeatMs * SILENCE);
        if (event.type === "welcome") heartbeatMs = event.heartbeat_ms;
        watch(heartbeatMs * SILENCE);
        context.event(event);
      };
      socket.onclose = ({ code, reason }) => end(reason || "lost", code);
      // What it is, `close` tells; that one was closed before it opened, nobody wants to know.
      socket.onerror = () => {};
    },
    send,
    check: () => ask(CHECK_MS),
    close() {
      ended = true;
      clearTimeout(timer);
      if (!socket) return;
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    },
  };
  return transport;
}
