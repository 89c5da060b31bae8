// What a message's data looks like to a reader. Anyone may publish anything: this page's own
// `{name, text}`, a bare string from a terminal, any JSON, bytes.

const TEXT_MAX = 4_000;
const BYTES_SHOWN = 96;

/**
 * @returns {{kind: 'text'|'json'|'bytes'|'burst', name: string, text: string, note: string}}
 * `name` is who speaks: the name in the data, else the server's name for the sender.
 */
export function present(message) {
  const from = typeof message.from === 'string' && message.from !== '' ? message.from : 'someone';
  const { data } = message;
  if (data instanceof Uint8Array) return { ...presentBytes(data), name: from };
  if (typeof data === 'string') return { kind: 'text', name: from, text: clip(data), note: 'text' };
  if (data !== null && typeof data === 'object' && typeof data.text === 'string') {
    const name = typeof data.name === 'string' && data.name.trim() !== '' ? data.name.trim().slice(0, 60) : from;
    return { kind: data.burst === true ? 'burst' : 'text', name, text: clip(data.text), note: '' };
  }
  return { kind: 'json', name: from, text: clip(prettyText(data)), note: 'JSON' };
}

function presentBytes(bytes) {
  return { kind: 'bytes', text: hexDump(bytes.subarray(0, BYTES_SHOWN)), note: bytesNote(bytes.length) };
}

function bytesNote(length) {
  const size = length === 1 ? '1 byte' : `${length} bytes`;
  return length > BYTES_SHOWN ? `${size}, the first ${BYTES_SHOWN} shown` : size;
}

/** Eight bytes a line, in hexadecimal and in the characters they may be. */
function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const row = [...bytes.subarray(at, at + 8)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const characters = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${hex.padEnd(23)}  ${characters}`);
  }
  return lines.join('\n');
}

export function prettyText(value) {
  try {
    return JSON.stringify(value, null, 2) ?? 'nothing';
  } catch {
    return '(nested too deeply to show)';
  }
}

function clip(text) {
  return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}… (${text.length - TEXT_MAX} more characters)` : text;
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null)/g;
const COLOURED_MAX = 20_000;

/** Pretty JSON as nodes, its keys, strings, numbers and words marked for colour. */
export function prettyNodes(value) {
  const text = prettyText(value);
  const nodes = document.createDocumentFragment();
  if (text.length > COLOURED_MAX) {
    nodes.append(`${text.slice(0, COLOURED_MAX)}\n… ${text.length - COLOURED_MAX} more characters`);
    return nodes;
  }
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    nodes.append(text.slice(end, match.index));
    const [whole, string, colon, number] = match;
    const mark = document.createElement('span');
    mark.className = string ? (colon ? 'json-key' : 'json-string') : number ? 'json-number' : 'json-word';
    mark.textContent = string ?? whole;
    nodes.append(mark, colon ?? '');
    end = match.index + whole.length;
  }
  nodes.append(text.slice(end));
  return nodes;
}
