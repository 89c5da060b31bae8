// The client against the real server, by every transport.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { Switchboard, SwitchboardError } from 'switchboard-client';
import { client, count, eventually, hear, messages, reaches, Server, soon, TRANSPORTS } from './support.mjs';

let server;
let backend;

before(async () => {
  server = await Server.start({
    SWITCHBOARD_LIMITS__COMMANDS_PER_S: 'unlimited',
    SWITCHBOARD_NAMESPACES__SHORT__LOG_MESSAGES_MAX: '10',
    SWITCHBOARD_LIMITS__PRESENCE_GRACE: '300ms',
  });
  backend = client(server, 'websocket');
});

after(async () => {
  backend?.close();
  await server?.remove();
});

const publish = async (name, numbers) => {
  for (const number of numbers) await backend.publish(name, number);
};

for (const transport of TRANSPORTS) {
  describe(transport, () => {
    test('messages come in their order, the own ones too', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:order`);
      const { heard, subscription } = hear(room);
      const subscribed = await soon(subscription.ready, 'subscribed');
      assert.equal(subscribed.channel, room.name);
      const places = await Promise.all(count(0, 100).map((number) => room.publish(number)));
      assert.deepEqual(places.map(({ offset }) => offset), count(1, 101));
      await eventually('all are there', () => heard.length === 100);
      assert.deepEqual(messages(heard), count(0, 100));
      assert.equal(room.position, places[99].position);
      one.close();
    });

    test('what is published meanwhile is there after a cut, once', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:cut`);
      const { heard, subscription } = hear(room);
      const recovered = [];
      room.on('subscribed', (subscribed) => recovered.push(subscribed.recovered));
      await soon(subscription.ready, 'subscribed');
      for (let round = 0; round < 5; round++) {
        await publish(room.name, count(round * 20, round * 20 + 10));
        one.cut();
        await publish(room.name, count(round * 20 + 10, round * 20 + 20));
        await reaches(one, 'open');
      }
      await eventually('all are there', () => heard.length >= 100);
      assert.deepEqual(messages(heard), count(0, 100));
      assert.deepEqual(new Set(recovered.slice(1)), new Set([true]));
      one.close();
    });

    test('what the log has no more is a gap', async () => {
      const one = client(server, transport, { backoff: { baseMs: 1_000, capMs: 1_000 } });
      const room = one.channel(`short:${transport}`);
      const { heard, subscription } = hear(room);
      const recovered = [];
      room.on('subscribed', (subscribed) => recovered.push(subscribed.recovered));
      await soon(subscription.ready, 'subscribed');
      // It tells that it is cut off before it tries again.
      const waiting = reaches(one, 'waiting');
      one.cut();
      await waiting;
      const isBack = reaches(one, 'open');
      await publish(room.name, count(0, 25));
      one.retry();
      await isBack;
      await eventually('all are there', () => messages(heard).at(-1) === 24);
      if (messages(heard).length < 25) {
        const [kind, from, to] = heard[0];
        assert.equal(kind, 'gap');
        assert.equal(from, 1);
        assert.deepEqual(messages(heard), count(to, 25));
        assert.equal(recovered[1], false);
      }
      one.close();
    });

    test('publications wait for the connection and are there once, in their order', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:queue`);
      const { heard, subscription } = hear(backend.channel(room.name));
      await soon(subscription.ready, 'subscribed');
      const published = [];
      for (const number of count(0, 200)) {
        published.push(room.publish(number));
        if (number % 40 === 20) one.cut();
        if (number % 10 === 0) await new Promise((next) => setTimeout(next, 5));
      }
      assert.ok(one.bufferedAmount > 0);
      await soon(one.drained(), 'drained');
      const offsets = (await Promise.all(published)).map(({ offset }) => offset);
      assert.deepEqual(offsets, count(1, 201));
      assert.equal(one.bufferedAmount, 0);
      await eventually('all are there', () => heard.length >= 200);
      assert.deepEqual(messages(heard), count(0, 200));
      subscription.unsubscribe();
      one.close();
    });

    test('bytes stay bytes, and JSON what it is', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:kinds`);
      const { heard, subscription } = hear(room);
      await soon(subscription.ready, 'subscribed');
      const sent = [null, 0, 'ü\r\n ', [1, { a: [] }], new Uint8Array([0, 255, 10])];
      for (const data of sent) await room.publish(data);
      await eventually('all are there', () => heard.length === sent.length);
      assert.deepEqual(messages(heard), sent);
      one.close();
    });

    test('who is there, by a list that follows what happens', async () => {
      const one = client(server, transport);
      const two = client(server, transport);
      const room = one.channel(`${transport}:who`);
      room.subscribe({ presence: true, info: { name: 'Ana' } });
      await eventually('Ana is there', () => room.presence?.count === 1);
      const other = two.channel(room.name).subscribe({ presence: 'member', info: { name: 'Ben' } });
      await eventually('both are there', () => room.presence.members.size === 2);
      const names = [...room.presence.members.values()].map(({ info }) => info.name);
      assert.deepEqual(names.sort(), ['Ana', 'Ben']);
      assert.ok(room.presence.listed && room.presence.users === 2);
      other.unsubscribe();
      two.close();
      await eventually('Ben has left', () => room.presence.count === 1);
      one.close();
    });

    test('many channels, each as long as it is used', async () => {
      const one = client(server, transport);
      const rooms = count(0, 20).map((number) => one.channel(`${transport}:many:${number}`));
      const uses = rooms.map((room) => hear(room));
      await soon(Promise.all(uses.map(({ subscription }) => subscription.ready)), 'all are subscribed');
      for (const room of rooms) await backend.publish(room.name, 'first');
      await eventually('each has its message', () => uses.every(({ heard }) => heard.length === 1));
      // Half of them end.
      for (const { subscription } of uses.slice(10)) subscription.unsubscribe();
      await eventually('they have left', () => rooms.slice(10).every((room) => !room.subscribed));
      for (const room of rooms) await backend.publish(room.name, 'second');
      await eventually('those that stay go on', () => uses.slice(0, 10).every(({ heard }) => heard.length === 2));
      assert.ok(uses.slice(10).every(({ heard }) => heard.length === 1));
      one.close();
    });

    test('a loop takes messages until it ends', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:loop`);
      const seen = [];
      const loop = (async () => {
        for await (const { data } of room) {
          seen.push(data);
          if (data === 9) break;
        }
      })();
      await eventually('it is subscribed', () => room.subscribed);
      await publish(room.name, count(0, 12));
      await soon(loop, 'the loop ends');
      assert.deepEqual(seen, count(0, 10));
      await eventually('it has left', () => !room.subscribed);
      one.close();
    });

    test('it is back at once in a channel where nothing happens', async () => {
      const one = client(server, transport, { patienceMs: 3_000 });
      await soon(one.channel(`${transport}:idle`).subscribe().ready, 'subscribed');
      for (let round = 0; round < 3; round++) {
        const waiting = reaches(one, 'waiting');
        one.cut();
        await waiting;
        await reaches(one, 'open');
        await soon(one.publish(`${transport}:idle:other`, round), 'published');
      }
      await eventually('it is subscribed', () => one.channel(`${transport}:idle`).subscribed);
      one.close();
    });

    test('whoever ends and begins anew while it is asked for is subscribed', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:anew`);
      room.subscribe().unsubscribe();
      const { heard, subscription } = hear(room);
      await soon(subscription.ready, 'subscribed');
      assert.ok(room.subscribed);
      await publish(room.name, [1]);
      await eventually('it hears', () => heard.length === 1);
      one.close();
    });

    test('many more channels than one connection may have: those that may be stay', async () => {
  const own = await Server.start();
  const one = client(own, 'websocket');
  await reaches(one, 'open');
  const states = [];
  one.on('state', ({ status, reason }) => states.push([status, reason]));
  const rooms = count(0, 300).map((number) => one.channel(`many:${number}`));
  const answers = await soon(Promise.allSettled(rooms.map((room) => room.subscribe().ready)), 'all are answered');
  assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, 128);
  const codes = new Set(answers.filter(({ reason }) => reason).map(({ reason }) => reason.code));
  assert.deepEqual([...codes], ['too_many_subscriptions']);
  assert.deepEqual(states, []);
  assert.equal(rooms.filter((room) => room.subscribed).length, 128);
  one.close();
  await own.remove();
});

test('more channels than one connection may have: the others go on', async () => {
      const one = client(server, transport);
      const uses = count(0, 135).map((number) => one.channel(`${transport}:crowd:${number}`).subscribe());
      const settled = await soon(Promise.allSettled(uses.map(({ ready }) => ready)), 'all are settled');
      const refused = settled.filter(({ status }) => status === 'rejected');
      assert.equal(refused.length, transport === 'websocket' ? 7 : 0);
      for (const { reason } of refused) assert.equal(reason.code, 'too_many_subscriptions');
      one.close();
    });

    test('a subscription that is refused leaves no listener behind', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:refused`);
      const other = hear(one.channel(`${transport}:beside`));
      const heard = [];
      const listener = ({ data }) => heard.push(data);
      await assert.rejects(soon(room.subscribe(listener, { since: 'garbage' }).ready, 'refused'), { code: 'bad_position' });
      await soon(room.subscribe(listener).ready, 'subscribed');
      await soon(other.subscription.ready, 'the other one goes on');
      await publish(room.name, [1]);
      await eventually('it hears', () => heard.length > 0);
      assert.deepEqual(heard, [1]);
      one.close();
    });

    test('nothing is open where there is no server', async () => {
      const one = client({ origin: 'http://127.0.0.1:9' }, transport);
      let opened = 0;
      one.on('state', ({ status }) => { opened += status === 'open'; });
      await reaches(one, 'waiting');
      assert.equal(opened, 0);
      one.close();
    });

    test('a listener that throws hurts no other', async () => {
      const one = client(server, transport);
      const room = one.channel(`${transport}:throws`);
      const reported = [];
      const { error } = console;
      console.error = (problem) => reported.push(problem.message);
      try {
        room.on('message', () => {
          throw new Error('mine');
        });
        const { heard, subscription } = hear(room);
        await soon(subscription.ready, 'subscribed');
        await publish(room.name, [1, 2]);
        await eventually('the other one goes on', () => heard.length === 2);
      } finally {
        console.error = error;
      }
      assert.deepEqual(reported, ['mine', 'mine']);
      one.close();
    });

    test('what the server does not take is told, and the others go on', async () => {
      const one = client(server, transport);
      const good = hear(one.channel(`${transport}:good`));
      await soon(good.subscription.ready, 'subscribed');
      const deep = (depth) => (depth ? [deep(depth - 1)] : 0);
      const refused = (data, options, why) => assert.rejects(soon(one.publish(`${transport}:good`, data, options), 'an answer'), why);
      await refused('\ud800', {}, { code: 'bad_request', message: /surrogate/ });
      await refused(deep(32), {}, { code: 'too_complex' });
      await refused({ toJSON: () => deep(32) }, {}, { code: 'too_complex' });
      await refused(0, { key: '' }, { code: 'bad_request' });
      await refused(0, { key: 7 }, { code: 'bad_request' });
      await refused(0, { conflate: 7 }, { code: 'bad_request' });
      assert.equal(one.bufferedAmount, 0);
      assert.equal((await one.publish(`${transport}:good`, ['\\ud800', '😀', deep(30)])).offset, 1);
      await eventually('it goes on', () => good.heard.length === 1);
      one.close();
    });
  });
}

test('a session that goes on by another transport loses nothing', async () => {
  const one = client(server, 'websocket', { transports: ['websocket', 'sse', 'poll'] });
  const room = one.channel('across');
  const { heard, subscription } = hear(room);
  await soon(subscription.ready, 'subscribed');
  await publish('across', count(0, 5));
  await eventually('the first are there', () => heard.length === 5);
  const since = room.position;
  one.close();
  for (const transport of TRANSPORTS) {
    const next = client(server, transport);
    await publish('across', [transport]);
    const { heard } = hear(next.channel('across'), { since });
    await eventually(`it goes on by ${transport}`, () => messages(heard).at(-1) === transport);
    next.close();
  }
});

test('history and members, by WebSocket', async () => {
  const one = client(server, 'websocket');
  const room = one.channel('log');
  await publish('log', count(0, 10));
  const { messages: log } = await room.history({ limit: 3 });
  assert.deepEqual(log.map(({ data }) => data), [7, 8, 9]);
  room.subscribe({ presence: 'member' });
  await eventually('it is there', async () => (await room.members()).count === 1);
  assert.ok((await one.ping()) >= 0);
  const other = client(server, 'sse');
  for (const options of [{ limit: -1 }, { limit: 1.5 }, { limit: '5' }, { since: 5 }]) {
    await assert.rejects(soon(room.history(options), 'an answer'), { code: 'bad_request' });
  }
  assert.equal((await room.history({ channel: 'other', type: 'ping', id: 7 })).channel, 'log');
  for (const asked of [other.channel('log').history(), other.channel('log').members(), other.ping()]) {
    await assert.rejects(asked, { code: 'unsupported' });
  }
  one.close();
  other.close();
});

for (const transport of TRANSPORTS) {
  test(`channels that come and go quickly, by ${transport}`, async () => {
    const one = client(server, transport);
    await soon(one.channel(`${transport}:stays`).subscribe().ready, 'subscribed');
    const errors = [];
    let use;
    for (const number of count(0, 40)) {
      const room = one.channel(`${transport}:swap:${number}`);
      room.on('error', ({ code }) => errors.push(code));
      use?.unsubscribe();
      use = room.subscribe();
      await new Promise((later) => setTimeout(later, number % 8));
    }
    await soon(use.ready, 'the last one is subscribed');
    assert.deepEqual(errors, []);
    one.close();
  });

  test(`many that are left at once keep nobody waiting, by ${transport}`, async () => {
    const asked = [];
    const counting = (url, init) => {
      asked.push(url);
      return fetch(url, init);
    };
    const one = client(server, transport, { fetch: counting });
    const { heard, subscription } = hear(one.channel(`${transport}:beside`));
    await soon(subscription.ready, 'subscribed');
    asked.length = 0;
    const uses = count(0, 60).map((number) => one.channel(`${transport}:left:${number}`).subscribe());
    for (const use of uses) use.unsubscribe();
    await backend.publish(`${transport}:beside`, 1);
    await soon(one.channel(`${transport}:next`).subscribe().ready, 'the next one is subscribed');
    await eventually('what happens beside is heard', () => heard.length === 1);
    // Not one for each of them.
    assert.ok(asked.length < 20, `${asked.length} requests`);
    one.close();
  });

  test(`who ends and begins anew at once misses nothing, by ${transport}`, async () => {
    const one = client(server, transport);
    const room = one.channel(`${transport}:anew`);
    for (const round of count(0, 5)) {
      const { heard, subscription } = hear(room);
      await soon(subscription.ready, 'subscribed');
      await backend.publish(room.name, 1);
      await eventually('the first is there', () => heard.length === 1);
      const since = room.position;
      subscription.unsubscribe();
      await backend.publish(room.name, 2);
      if (round % 2) await new Promise((later) => setTimeout(later, 20));
      const again = [];
      const use = room.subscribe(({ data }) => again.push(data), { since });
      await soon(use.ready, 'subscribed again');
      await backend.publish(room.name, 3);
      await eventually('all are there', () => again.length >= 2);
      assert.deepEqual(again, [2, 3]);
      use.unsubscribe();
      await eventually('it has left', () => !room.subscribed);
    }
    one.close();
  });
}

test('a use that goes on from an earlier position gets what lies between', async () => {
  const one = client(server, 'websocket');
  const room = one.channel('earlier');
  await publish(room.name, count(0, 5));
  const { messages: log } = await room.history();
  room.subscribe().unsubscribe();
  const heard = [];
  const use = room.subscribe(({ data }) => heard.push(data), { since: log[1].position });
  await soon(use.ready, 'subscribed');
  await eventually('the others are there', () => heard.length === 3);
  assert.deepEqual(heard, [2, 3, 4]);
  one.close();
});

test('a channel with more messages than polls may be keeps its connection', async () => {
  const own = await Server.start();
  const one = client(own, 'poll');
  const { heard, subscription } = hear(one.channel('busy'));
  await soon(subscription.ready, 'subscribed');
  const states = [];
  one.on('state', ({ status }) => states.push(status));
  // As fast as it is read, and longer than the polls that are allowed at once.
  for (const number of count(0, 400)) {
    const response = await fetch(`http://127.0.0.1:${own.internalPort}/api/v1/publish?channel=busy`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: String(number) });
    assert.equal(response.status, 200);
    if (number % 2) await eventually('it is read', () => heard.length > number - 50);
  }
  await eventually('all are there', () => heard.length === 400);
  assert.deepEqual(messages(heard), count(0, 400));
  assert.deepEqual(states, []);
  one.close();
  await own.remove();
});

test('whoever polls from a position of before is one member', async () => {
  const other = client(server, 'websocket');
  const watcher = other.channel('since');
  const seen = [];
  watcher.on('presence', ({ count }) => seen.push(count));
  await soon(watcher.subscribe({ presence: 'watch' }).ready, 'subscribed');
  const { position } = await watcher.publish(1);
  const one = client(server, 'poll');
  const { heard } = hear(one.channel('since'), { since: position, presence: 'member' });
  for (const number of count(2, 7)) {
    await watcher.publish(number);
    await eventually('it is heard', () => heard.length === number - 1);
  }
  assert.equal((await watcher.members()).count, 1);
  assert.ok(Math.max(...seen) <= 1, String(seen));
  one.close();
  other.close();
});

test('wishes of several uses are one subscription', async () => {
  const one = client(server, 'websocket');
  const room = one.channel('wishes');
  const plain = hear(room);
  await soon(plain.subscription.ready, 'subscribed');
  await publish('wishes', [1]);
  const watch = room.subscribe({ presence: 'watch' });
  const member = room.subscribe({ presence: 'member', info: { n: 1 } });
  await eventually('it is there, and knows', () => room.presence?.count === 1);
  await publish('wishes', [2]);
  await eventually('nothing was lost', () => plain.heard.length === 2);
  assert.deepEqual(plain.heard, [['message', 1], ['message', 2]]);
  member.unsubscribe();
  watch.unsubscribe();
  await eventually('it has left', async () => (await room.members()).count === 0);
  one.close();
});

test('who ends and begins anew at once stays subscribed', async () => {
  const one = client(server, 'websocket');
  const room = one.channel('again');
  const first = hear(room);
  await soon(first.subscription.ready, 'subscribed');
  let subscribed = 0;
  room.on('subscribed', () => subscribed++);
  for (let round = 0; round < 50; round++) {
    const use = room.subscribe();
    (round === 0 ? first.subscription : use).unsubscribe();
    room.subscribe();
  }
  await publish('again', [1]);
  await new Promise((later) => setTimeout(later, 300));
  assert.equal(subscribed, 0, 'the server was told nothing');
  one.close();
});

test('a channel that is kept can be used again, long after its last use', async () => {
  const one = client(server, 'websocket');
  const room = one.channel('kept');
  for (const round of [1, 2, 3]) {
    const { heard, subscription } = hear(room);
    await soon(subscription.ready, 'subscribed');
    assert.equal(one.channel('kept'), room);
    await publish('kept', [round]);
    await eventually('it hears', () => heard.length === 1);
    subscription.unsubscribe();
    await eventually('it has left', () => !room.subscribed);
  }
  one.close();
});

test('what is closed takes nobody by surprise and keeps no process alive', async () => {
  const script = `
    import { Switchboard } from 'switchboard-client';
    const one = new Switchboard(${JSON.stringify(server.origin)}, { upgradeAfterMs: 600_000 });
    one.on('state', ({ status }) => { if (status === 'open') one.close(); });
    one.publish('a', 1);
    one.channel('a').subscribe();
    one.channel('a').members();
  `;
  const node = spawn(process.execPath, ['--input-type=module', '--eval', script], { cwd: import.meta.dirname, stdio: ['ignore', 'inherit', 'pipe'] });
  let complained = '';
  node.stderr.on('data', (bytes) => { complained += bytes; });
  const [code] = await soon(once(node, 'exit'), 'it ends');
  assert.equal(code, 0, complained);
});

test('a client that is refused for good says so to who waits for a channel', async () => {
  const one = client(server, 'websocket', { token: () => null });
  await assert.rejects(soon(one.channel('a').subscribe().ready, 'refused'), { code: 'unauthorized' });
  one.close();
});

test('misuse is told in words', () => {
  const one = client(server, 'websocket', { lazy: true });
  for (const [use, words] of [
    [() => one.channel(''), /not the name of a channel/],
    [() => one.channel(7), /not the name of a channel.*: 7/],
    [() => one.channel(Symbol('a')), /not the name of a channel.*: Symbol\(a\)/],
    [() => one.publish('a', undefined), /undefined is not JSON/],
    [() => one.publish('a', () => 1), /function is not JSON/],
    [() => one.publish('a', Symbol('x')), /symbol is not JSON/],
    [() => one.channel('a').subscribe('x'), /a listener is a function/],
    [() => one.channel('a').on('message'), /a listener is a function/],
    [() => new Switchboard('ftp://x'), /not the URL of a server.*ftp:/],
    [() => new Switchboard(), /not the URL of a server/],
    [() => new Switchboard('http://x', { transports: ['carrier-pigeon'] }), /carrier-pigeon is not one of/],
    [() => new Switchboard('http://x', { transports: 'constructor' }), /constructor is not one of/],
    [() => new Switchboard('http://x', { transports: [] }), /is not one of/],
    [() => new Switchboard('http://x', { backoff: { baseMs: 'soon' } }), /milliseconds/],
    [() => new Switchboard('http://x', { backoff: { capMs: -1 } }), /milliseconds/],
  ]) {
    assert.throws(use, { name: 'TypeError', message: words });
  }
  one.close();
});

test('a client that is closed says so to everyone who waits', async () => {
  const one = client({ origin: 'http://127.0.0.1:9' }, 'websocket');
  const room = one.channel('a');
  const { ready } = room.subscribe();
  const waiting = [ready, room.publish(1), room.history()];
  one.close();
  for (const promise of waiting) await assert.rejects(promise, { name: 'SwitchboardError', code: 'closed' });
  await assert.rejects(room.publish(1), SwitchboardError);
  assert.equal(one.state.status, 'closed');
});

test('a queue has a size', async () => {
  const one = client({ origin: 'http://127.0.0.1:9' }, 'websocket', { queue: { messages: 3 } });
  const waiting = count(0, 3).map((number) => one.publish('a', number));
  await assert.rejects(one.publish('a', 3), { code: 'queue_full', retryable: true });
  one.close();
  await Promise.allSettled(waiting);
});

test("over HTTP an error of a fetch of one's own is none of the server's, whatever it looks like", async () => {
  for (const transport of ['sse', 'poll']) {
    let fails = true;
    const throwing = (url, init) => {
      if (fails && init.body) throw Object.assign(new Error('Service Unavailable'), { status: 503, data: {} });
      return fetch(url, init);
    };
    const one = client(server, transport, { fetch: throwing });
    const { heard, subscription } = hear(one.channel(`${transport}:throws`));
    await soon(subscription.ready, 'subscribed');
    const published = one.channel(`${transport}:throws`).publish('at last');
    await eventually('the connection is given up', () => one.state.status === 'waiting');
    fails = false;
    await soon(published, 'published');
    await eventually('it is heard', () => heard.length === 1);
    one.close();
  }
});

test('over HTTP one request reads channels with different wishes', async () => {
  for (const transport of ['sse', 'poll']) {
    const asked = [];
    const counting = (url, init) => {
      if (!url.includes('/publish')) asked.push([...new URL(url).searchParams.entries()]);
      return fetch(url, init);
    };
    const one = client(server, transport, { fetch: counting });
    const channel = (name) => one.channel(`${transport}:wishes:${name}`);
    const heard = [];
    const hears = ({ channel, data }) => heard.push([channel.split(':')[2], data]);
    const info = { name: 'Ana & Bö' };
    await soon(
      Promise.all([
        channel('plain').subscribe(hears).ready,
        channel('there').subscribe(hears, { presence: true, info }).ready,
        channel('ticker').subscribe(hears, { latest: true }).ready,
        channel('both').subscribe(hears, { latest: true, presence: true, info }).ready,
      ]),
      'all are subscribed',
    );
    await eventually('they are there', () => channel('there').presence?.count === 1 && channel('both').presence?.count === 1);
    const infos = [...channel('there').presence.members.values()].map((member) => member.info);
    assert.deepEqual(infos, [info]);
    for (const name of ['plain', 'there', 'ticker', 'both']) await channel(name).publish(name);
    await eventually('all is heard', () => heard.length === 4);
    assert.deepEqual(heard.map(([name, data]) => name === data), [true, true, true, true]);
    assert.equal(channel('plain').presence, undefined);
    const counts = asked.map((parameters) => parameters.filter(([name]) => name === 'channel').length);
    assert.deepEqual(new Set(counts), new Set([4]));
    if (transport === 'sse') assert.equal(counts.length, 1);
    one.close();
  }
});
