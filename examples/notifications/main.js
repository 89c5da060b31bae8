// Notifications by Server-Sent Events, without a package: the browser connects again by itself, and says where it was.

const CHANNEL = 'notifications:ana';
const LAST = 'last notification';

const at = (id) => document.getElementById(id);
let failures = 0;

/** Server-Sent Events go one way: what comes is heard here. */
function listen() {
  // SWITCHBOARD_URL is where the server is; the runner puts it in.
  const url = new URL('/sse', SWITCHBOARD_URL);
  url.searchParams.set('channel', CHANNEL);
  // An EventSource knows where it was as long as the page is there; beyond that the page has to.
  const last = localStorage.getItem(LAST);
  if (last) url.searchParams.set('since', last);

  const events = new EventSource(url);
  const on = (type, handle) => events.addEventListener(type, (event) => {
    if (event.lastEventId) localStorage.setItem(LAST, event.lastEventId);
    handle(JSON.parse(event.data));
  });
  show('connecting', 'connecting …');
  events.addEventListener('open', () => {
    failures = 0;
    show('open', 'open · event stream');
  });
  on('subscribed', () => {});
  on('message', ({ data, at: when }) => add(data.title ?? 'Notification', data.text ?? String(data), when));
  on('gap', ({ from, to }) => add('Some are missing', `${to - from + 1} notifications are too old to be had.`));
  on('reset', () => add('Some may be missing', 'The server has begun a new log.'));
  events.addEventListener('error', () => {
    if (events.readyState === EventSource.CONNECTING) return show('waiting', 'waiting · tries again');
    // The server answered with an error, after which an EventSource does not come back by itself.
    show('closed', 'refused · tries again');
    setTimeout(() => {
      // Where we were may be the reason. Better to begin anew then than never.
      if (++failures >= 3) localStorage.removeItem(LAST);
      listen();
    }, 5_000);
  });
}

function show(status, words) {
  at('connection').dataset.status = status;
  at('connection').textContent = words;
}

function add(title, text, when) {
  const item = document.createElement('li');
  item.className = when ? 'card' : 'card notice';
  item.append(
    Object.assign(document.createElement('strong'), { textContent: title }),
    Object.assign(document.createElement('time'), { textContent: when ? new Date(when).toLocaleTimeString() : '', className: 'soft small' }),
    Object.assign(document.createElement('p'), { textContent: text }),
  );
  at('list').prepend(item);
}

at('send').addEventListener('submit', async (event) => {
  event.preventDefault();
  at('fault').textContent = '';
  const data = { title: 'From this page', text: at('text').value };
  try {
    const response = await fetch(new URL('/publish', SWITCHBOARD_URL), {
      method: 'POST',
      // With a key the same request may be sent again when its answer was lost.
      body: JSON.stringify({ channel: CHANNEL, data, key: crypto.randomUUID() }),
    });
    if (!response.ok) throw new Error((await response.json()).message);
  } catch (error) {
    at('fault').textContent = `not sent: ${error.message}`;
  }
});

// The listener for backends is another one, which pages cannot reach, and whose address only the operator knows.
const internal = /:8000\/?$/.test(SWITCHBOARD_URL) ? 'http://127.0.0.1:8001' : 'http://INTERNAL-ADDRESS';
at('curl').textContent = `curl -d '{"title":"Build 118","text":"All tests passed"}' \\
  '${internal}/api/v1/publish?channel=${CHANNEL}'`;

listen();
