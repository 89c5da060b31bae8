// A room with the hooks of switchboard-client/react.

import { StrictMode, useEffect, useRef, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import type { Message } from 'switchboard-client';
import { SwitchboardProvider, useChannel, useConnection, useLatest, usePresence, useSwitchboard } from 'switchboard-client/react';
import { describe, me } from '../shared.js';

/** Where the server is; the runner puts it in. */
declare const SWITCHBOARD_URL: string;

interface Line { by: string; name: string; text: string }
interface Person { name: string; hue: number }

const ROOMS = ['garden', 'kitchen'];
const SELF: Person = { name: me.name, hue: me.hue };

function App() {
  const [room, setRoom] = useState(ROOMS[0]);
  return (
    <>
      <header>
        <h1>React room</h1>
        <nav>
          {ROOMS.map((name) => <button key={name} className="plain" aria-pressed={name === room} onClick={() => setRoom(name)}>{name}</button>)}
        </nav>
        <Connection />
      </header>
      <main className="room">
        {/* The key makes another room another component, which begins with no lines. */}
        <Talk key={room} channel={`room:${room}`} />
        <aside className="card">
          <People channel={`room:${room}`} />
        </aside>
      </main>
    </>
  );
}

function Connection() {
  const state = useConnection();
  const [, tick] = useState(0);
  // The words count the seconds until the next attempt.
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 1_000);
    return () => clearInterval(timer);
  }, []);
  return <span id="connection" role="status" data-status={state.status}>{describe(state)}</span>;
}

function People({ channel }: { channel: string }) {
  const { members, count } = usePresence<Person>(channel, { info: SELF });
  const state = useConnection();
  const self = state.status === 'open' ? state.user : undefined;
  return (
    <>
      <h2>Here: {count}</h2>
      <ul className="people">
        {members.map(({ user, session, info }) => <li key={session} style={{ '--hue': info?.hue } as object}>{info?.name ?? user}{user === self && ' (you)'}</li>)}
      </ul>
    </>
  );
}

function Talk({ channel }: { channel: string }) {
  const client = useSwitchboard();
  const [lines, setLines] = useState<Message<Line>[]>([]);
  const [notice, setNotice] = useState('');
  const list = useRef<HTMLOListElement>(null);

  // By offset: what is in the log may come a second time, live.
  const add = (more: Message<Line>[]) => setLines((known) => {
    const all = new Map([...known, ...more].map((line) => [line.offset, line]));
    return [...all.values()].sort((one, other) => one.offset - other.offset);
  });
  const { publish, subscribed } = useChannel<Line>(channel, {
    onMessage: (message) => add([message]),
    onGap: ({ from, to }) => setNotice(`messages ${from} to ${to} are missing`),
    onReset: () => {
      setLines([]);
      setNotice('the server has begun a new log');
    },
  });
  // Once it is subscribed, what is older is in the log.
  useEffect(() => {
    if (subscribed) client?.channel<Line>(channel).history({ limit: 50 }).then(({ messages }) => add(messages), () => {});
  }, [client, channel, subscribed]);
  useEffect(() => { list.current?.lastElementChild?.scrollIntoView({ block: 'nearest' }); }, [lines, notice]);

  return (
    <section className="card talk">
      <Topic channel={`topic:${channel}`} />
      <ol ref={list} className="lines" role="log" aria-label="Messages">
        {lines.map(({ offset, data }) => (
          <li key={offset} className={data.by === me.id ? 'mine' : ''}><strong>{data.name}</strong>{data.text}</li>
        ))}
        {notice && <li className="notice">{notice}</li>}
      </ol>
      <Say publish={(text) => publish({ by: me.id, name: me.name, text })} />
    </section>
  );
}

/** What the room is about: a channel of which only the newest message counts. */
function Topic({ channel }: { channel: string }) {
  const topic = useLatest<string>(channel, '');
  const client = useSwitchboard();
  return (
    <input key={topic} className="topic" aria-label="Topic" placeholder="What is this room about?" defaultValue={topic} maxLength={200}
      onBlur={({ target }) => { if (target.value !== topic) void client?.publish(channel, target.value); }}
      onKeyDown={({ key, currentTarget }) => { if (key === 'Enter') currentTarget.blur(); }} />
  );
}

function Say({ publish }: { publish: (text: string) => Promise<unknown> }) {
  const [text, setText] = useState('');
  const [fault, setFault] = useState('');
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (!text.trim()) return;
    setText('');
    setFault('');
    publish(text.trim()).catch((error: Error) => setFault(`not sent: ${error.message}`));
  };
  return (
    <>
      <form className="row" onSubmit={send}>
        <input value={text} onChange={({ target }) => setText(target.value)} placeholder="Say something" aria-label="Message" maxLength={2000} />
        <button>Send</button>
      </form>
      {fault && <p className="fault" role="alert">{fault}</p>}
    </>
  );
}

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <SwitchboardProvider url={SWITCHBOARD_URL}><App /></SwitchboardProvider>
  </StrictMode>,
);
