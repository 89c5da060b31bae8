// The package as a user installs it: packed, put into a project of its own, and used from there in every way.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const PACKAGE = new URL('..', import.meta.url).pathname;
let project;

const run = (command, ...rest) => {
  try {
    return execFileSync(command, rest, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    throw new Error(`${command} ${rest.join(' ')}\n${error.stdout}\n${error.stderr}`);
  }
};
const write = (name, text) => writeFileSync(join(project, name), text);

before(() => {
  project = mkdtempSync(join(tmpdir(), 'switchboard-project-'));
  const { devDependencies } = JSON.parse(readFileSync(join(PACKAGE, 'package.json')));
  execFileSync('npm', ['pack', '--silent', '--pack-destination', project], { cwd: PACKAGE });
  const [tarball] = readdirSync(project).filter((file) => file.endsWith('.tgz'));
  write('package.json', JSON.stringify({ name: 'project', private: true }));
  const others = ['typescript', 'react', 'react-dom', '@types/react', '@types/react-dom', 'vite'];
  const versions = others.map((name) => `${name}@${devDependencies[name]}`);
  run('npm', 'install', '--silent', '--no-audit', '--no-fund', `./${tarball}`, ...versions);
});

after(() => rmSync(project, { recursive: true, force: true }));

test('it holds what it says, and nothing else', () => {
  const root = join(project, 'node_modules/switchboard-client');
  assert.deepEqual(readdirSync(root).sort(), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json', 'src']);
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json')));
  assert.equal(dependencies, undefined);
  for (const file of ['index.js', 'index.cjs', 'react.js', 'react.cjs']) {
    const map = JSON.parse(readFileSync(join(root, 'dist', `${file}.map`)));
    for (const source of map.sources) assert.ok(readdirSync(join(root, 'dist', source, '..')).length, source);
  }
});

const USE = `
  const client = new Switchboard('http://127.0.0.1:9', { lazy: true });
  if (client.channel('a') !== client.channel('a')) throw new Error('two channels');
  client.close();
  if (!(client.state.reason instanceof SwitchboardError)) throw new Error('no reason');
  console.log(client.state.status);
`;

test('as an ES module', () => {
  write('use.mjs', `import { Switchboard, SwitchboardError } from 'switchboard-client';${USE}`);
  assert.equal(run('node', 'use.mjs'), 'closed\n');
});

test('as CommonJS', () => {
  write('use.cjs', `const { Switchboard, SwitchboardError } = require('switchboard-client');${USE}`);
  assert.equal(run('node', 'use.cjs'), 'closed\n');
});

test('rendered on a server', () => {
  write('page.cjs', `
    const { createElement: element } = require('react');
    const { renderToString } = require('react-dom/server');
    const { SwitchboardProvider, useChannel, useConnection, useLatest, usePresence } = require('switchboard-client/react');
    const Page = () => {
      const { subscribed } = useChannel('a', () => {});
      const words = [useConnection().status, String(subscribed), useLatest('b', 7), usePresence('a').count];
      return element('p', null, words.join(' '));
    };
    console.log(renderToString(element(SwitchboardProvider, { url: 'http://127.0.0.1:9' }, element(Page))));
  `);
  assert.equal(run('node', 'page.cjs'), '<p>idle false 7 0</p>\n');
});

const TYPED = `
  import { Switchboard, SwitchboardError, type Message, type State } from 'switchboard-client';
  import { SwitchboardProvider, useChannel, useConnection, useLatest, usePresence, useSwitchboard } from 'switchboard-client/react';

  interface Line { text: string }
  interface Who { name: string }
  const client = new Switchboard('https://chat.example', { token: async () => 'x', transports: ['websocket', 'poll'] });
  const room = client.channel<Line, Who>('room:42');
  const off: () => void = room.on('message', ({ data, offset }) => console.log(data.text.length, offset.toFixed()));
  const subscription = room.subscribe((message: Message<Line>) => console.log(message.from?.length), { presence: true, info: { name: 'Ana' } });
  subscription.ready.then(({ recovered }) => recovered === true);
  room.presence?.members.forEach(({ info }) => info?.name.length);
  room.publish({ text: 'hi' }, { key: 'k' }).then(({ position }) => position.length);
  // @ts-expect-error: not a message of this channel
  room.publish({ words: 'hi' });
  // @ts-expect-error: there is no such event
  room.on('massage', () => {});
  async function read(): Promise<void> { for await (const { data } of room) console.log(data.text); }
  function words(state: State): string {
    switch (state.status) {
      case 'open': return state.user;
      case 'waiting': return new Date(state.retryAt).toISOString();
      case 'closed': return state.reason.code === 'unauthorized' ? 'no' : state.reason.message;
      default: return state.status;
    }
  }
  function failed(error: unknown): boolean { return error instanceof SwitchboardError && error.retryable; }
  export function Page() {
    const { publish, subscribed } = useChannel<Line>('room:42', { onMessage: ({ data }) => console.log(data.text), presence: 'watch' });
    const { members } = usePresence<Who>('room:42', { info: { name: 'Ana' } });
    const price = useLatest<number>('price', 1);
    useSwitchboard()?.close();
    return <button disabled={!subscribed} onClick={() => void publish({ text: words(useConnection()) })}>{members[0]?.info?.name}{price.toFixed()}</button>;
  }
  export const App = () => <SwitchboardProvider url="https://chat.example" options={{ lazy: true }}><Page /></SwitchboardProvider>;
  off(); subscription.unsubscribe(); void read(); void failed;
`;

test('by TypeScript with strict settings, in both kinds of modules', () => {
  for (const [file, type] of [['typed.mts', 'module'], ['typed.cts', 'commonjs']]) {
    const directory = join(project, type);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'package.json'), JSON.stringify({ type }));
    writeFileSync(join(directory, file.replace(/\.[mc]ts/, '.tsx')), TYPED);
    const settings = {
      module: 'nodenext', target: 'es2022', lib: ['es2022', 'dom'], jsx: 'react-jsx', strict: true, noEmit: true, skipLibCheck: false,
      exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, types: [],
    };
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions: settings, include: ['*.tsx'] }));
    run('npx', 'tsc', '--project', type);
  }
});

test('in a Vite build, of which what is not used stays out', () => {
  write('index.html', '<div id="root"></div><script type="module" src="/main.js"></script>');
  write('main.js', `import { Switchboard } from 'switchboard-client'; globalThis.client = new Switchboard(undefined, { lazy: true });`);
  run('npx', 'vite', 'build', '--logLevel', 'error');
  const [bundle] = readdirSync(join(project, 'dist/assets')).filter((file) => file.endsWith('.js'));
  const text = readFileSync(join(project, 'dist/assets', bundle), 'utf8');
  assert.ok(text.includes('/sse') || text.includes('sse'), 'the client is in it');
  assert.ok(!text.includes('useSyncExternalStore'), 'React is not');

  write('main.js', `import { SwitchboardError } from 'switchboard-client'; console.log(SwitchboardError.name);`);
  run('npx', 'vite', 'build', '--logLevel', 'error');
  const [small] = readdirSync(join(project, 'dist/assets')).filter((file) => file.endsWith('.js'));
  const bytes = readFileSync(join(project, 'dist/assets', small)).length;
  assert.ok(bytes < text.length / 4, `${bytes} of ${text.length}`);
});
