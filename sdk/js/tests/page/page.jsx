// What the browser tests load: the client, and a page in React that uses it.

import { Activity, StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Switchboard } from 'switchboard-client';
import { SwitchboardProvider, useChannel, useConnection, useLatest, usePresence } from 'switchboard-client/react';

globalThis.Switchboard = Switchboard;

/** Counts what a page could leak, and what it says. */
globalThis.counted = { listeners: 0, sockets: 0, open: 0, sent: [] };
const WATCHED = ['online', 'pageshow', 'visibilitychange', 'resume'];
for (const target of [globalThis, document]) {
  const { addEventListener, removeEventListener } = target;
  target.addEventListener = (name, ...all) => {
    if (WATCHED.includes(name)) counted.listeners++;
    return addEventListener.call(target, name, ...all);
  };
  target.removeEventListener = (name, ...all) => {
    if (WATCHED.includes(name)) counted.listeners--;
    return removeEventListener.call(target, name, ...all);
  };
}
const Native = WebSocket;
globalThis.WebSocket = class extends Native {
  constructor(...all) {
    super(...all);
    counted.sockets++;
    this.addEventListener('open', () => counted.open++);
    this.addEventListener('close', () => counted.open--);
  }

  send(text) {
    counted.sent.push(JSON.parse(text).type);
    super.send(text);
  }
};

/** A client whose channel's messages are kept. */
globalThis.listen = (url, name, options) => {
  const client = new Switchboard(url, options);
  const heard = [];
  const states = [];
  client.on('state', ({ status }) => states.push(status));
  const room = client.channel(name);
  room.on('gap', () => heard.push('gap'));
  room.on('reset', () => heard.push('reset'));
  room.subscribe(({ data }) => heard.push(data));
  Object.assign(globalThis, { client, room, heard, states });
};

function Line({ name }) {
  const [words, setWords] = useState([]);
  const { subscribed, publish } = useChannel(name, ({ data }) => setWords((known) => [...known, data]));
  return (
    <p>
      <output id="words" data-subscribed={subscribed}>{words.join(' ')}</output>
      <button id="say" onClick={() => void publish('said')}>say</button>
    </p>
  );
}

function People({ name, info }) {
  const { members, count } = usePresence(name, { info });
  return <output id="people">{`${count}: ${members.map((member) => member.info?.name).sort().join(' ')}`}</output>;
}

function Page({ name }) {
  const { status } = useConnection();
  const [isShown, show] = useState(true);
  const latest = useLatest(`${name}:latest`, 'none');
  return (
    <main>
      <output id="status">{status}</output>
      <output id="latest">{latest}</output>
      <button id="toggle" onClick={() => show(!isShown)}>toggle</button>
      {isShown && <Line name={name} />}
      <People name={name} info={{ name: 'Ana' }} />
    </main>
  );
}

/** Everything in a part of the page that can be hidden, which ends its effects and keeps its state. */
function Hidable({ url, name }) {
  const [isShown, show] = useState(true);
  globalThis.show = show;
  return (
    <Activity mode={isShown ? 'visible' : 'hidden'}>
      <SwitchboardProvider url={url} options={{ backoff: { baseMs: 50, capMs: 200 } }}>
        <Page name={name} />
      </SwitchboardProvider>
    </Activity>
  );
}

globalThis.mountHidable = (url, name) => {
  const root = createRoot(document.getElementById('root'));
  root.render(<Hidable url={url} name={name} />);
  globalThis.unmount = () => root.unmount();
};

globalThis.mount = (url, name) => {
  const root = createRoot(document.getElementById('root'));
  root.render(
    <StrictMode>
      <SwitchboardProvider url={url}>
        <Page name={name} />
      </SwitchboardProvider>
    </StrictMode>,
  );
  globalThis.unmount = () => root.unmount();
};
