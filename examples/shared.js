// What all the pages do: they say what the connection is doing, and have a name for whoever looks at them.

/** What a connection is doing, in words. */
export function describe(state) {
  switch (state.status) {
    case 'open': return `open · ${state.transport}`;
    case 'waiting': return `waiting · again in ${Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1_000))} s`;
    case 'closed': return `closed · ${state.reason.message}`;
    default: return `${state.status} …`;
  }
}

/** Keeps the element `#connection` up to date. */
export function showConnection(client) {
  const element = document.querySelector('#connection');
  const show = () => {
    element.dataset.status = client.state.status;
    element.textContent = describe(client.state);
  };
  client.on('state', show);
  setInterval(show, 1_000);
  show();
}

/** Who looks at this page: a name and a colour, the same until the tab is closed. `?name=Ana` chooses one. */
export const me = JSON.parse(sessionStorage.getItem('me')) ?? {
  id: crypto.randomUUID(),
  name: new URLSearchParams(location.search).get('name') ?? `${one('Brisk Calm Keen Wry Bold Shy Glad Swift')} ${one('Heron Otter Lynx Wren Ibex Newt Stoat Finch')}`,
  hue: Math.floor(Math.random() * 360),
};
sessionStorage.setItem('me', JSON.stringify(me));

function one(words) {
  const list = words.split(' ');
  return list[Math.floor(Math.random() * list.length)];
}
