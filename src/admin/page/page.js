// The page: puts its parts together, and hands each what it needs. Owns what is chosen: the pool and the backend.

import { Refused, Watch, get, hasToken, query } from './api.js';
import { Charts } from './charts.js';
import { Events } from './events.js';
import { Lookup } from './lookup.js';
import { Orders } from './orders.js';
import { Plan } from './plan.js';
import { Ring } from './ring.js';
import { Table } from './table.js';
import { show as showVerdict } from './verdict.js';
import { element, make, number, onThemeChange, seconds, setText } from './words.js';

let sample = null;
let poolName = sessionStorage.getItem('ringway-pool') ?? '';
let selected = null;
/** Which ring is drawn: it is asked for again when this changes. */
let drawn = '';
let hasHistory = false;

const charts = new Charts();
const events = new Events();
const orders = new Orders({ done: say, token: afterToken });
const ring = new Ring(element('ring'), element('ring-middle'), { select, hover });
const table = new Table({ select, hover, change: (backend) => orders.ask(pool(), backend) });
const lookup = new Lookup({ pool: () => pool()?.name, found, hover, unauthorized });
new Plan({ unauthorized: (why, had) => orders.askToken(why, had ? 'The token that is kept here is not the right one.' : '') });

const watch = new Watch({
  sample: take,
  change: (id, change) => {
    events.add(id, change);
    lookup.again();
  },
  lost: () => events.lost(),
  state: setLink,
  unauthorized,
});

function pool() {
  return sample?.pools.find((one) => one.name === poolName) ?? sample?.pools[0] ?? null;
}

function take(now) {
  sample = now;
  charts.add(now);
  if (!hasHistory) begin();
  show();
}

async function begin() {
  hasHistory = true;
  // From now on an empty list means that there was nothing.
  element('events').classList.add('known');
  try {
    charts.begin(await get('api/live/history'));
  } catch {
    hasHistory = false;
  }
}

/** Draws all that depends on the sample. */
function show() {
  if (!sample) return;
  const chosen = pool();
  setText(element('revision'), String(sample.revision));
  showVerdict(sample, (name, figure) => charts.mean(name, figure), go);
  showToken();
  showPools();
  if (!chosen) return;
  charts.draw(chosen.name);
  table.show(chosen, Date.parse(sample.time), sample.can_change);
  ring.setPool(chosen);
  followRing(chosen);
}

/** Asks for the ring where it is another one. */
async function followRing(chosen) {
  const wanted = `${chosen.name} ${chosen.fingerprint}`;
  if (drawn === wanted) return;
  drawn = wanted;
  try {
    const told = await get(query('api/ring', [['pool', chosen.name]]));
    if (drawn !== wanted) return;
    ring.setRing(told);
    const picture = told.exact ? '' : `, ${told.arcs.length} segments drawn`;
    setText(element('ring-legend'), `Outside: who owns which keys (${told.virtual_nodes} virtual nodes${picture}). Inside: each backend’s share; filled up to the dashed line, it gets requests as its share of keys asks for.`);
  } catch (problem) {
    drawn = '';
    if (problem instanceof Refused && problem.status === 401) unauthorized();
  }
}

function showPools() {
  const box = element('pools');
  box.hidden = sample.pools.length < 2;
  if (box.hidden) return;
  const names = sample.pools.map((one) => one.name).join('\n');
  if (box.dataset.names !== names) {
    box.dataset.names = names;
    box.replaceChildren(...sample.pools.map((one) => {
      const button = make('button', 'pool');
      button.type = 'button';
      button.append(make('b', '', one.name), make('span', 'number serve'), make('span', 'number rate'), make('span', 'number late'));
      button.addEventListener('click', () => go(one.name));
      return button;
    }));
  }
  sample.pools.forEach((one, at) => {
    const button = box.children[at];
    const [, serve, rate, late] = button.children;
    button.setAttribute('aria-pressed', String(one.name === pool().name));
    const out = one.backends.length - one.serving;
    button.dataset.state = one.serving === 0 && one.backends.length ? 'outage' : out > 0 ? 'wrong' : 'well';
    setText(serve, `${out > 0 ? '✕ ' : '● '}${one.serving} of ${one.backends.length} serve`);
    setText(rate, `${number(one.requests_per_second)} req/s`);
    setText(late, `p99 ${seconds(one.first_byte_p99)}`);
  });
}

/** Shows a pool, and in it a backend. */
function go(name, backend) {
  poolName = name;
  sessionStorage.setItem('ringway-pool', name);
  selected = null;
  table.select(null);
  ring.select(null);
  show();
  if (backend) {
    select(backend);
    table.reveal(backend);
  }
}

function select(name) {
  selected = name === selected ? null : name;
  table.select(selected);
  ring.select(selected);
}

function hover(name) {
  ring.hover(name);
}

/** A key's place is known. */
function found(where, key) {
  if (where && where !== pool()?.name) go(where);
  ring.setKey(key);
}

/** Says something to everybody: it is read out, and stands in the bar for a while. */
function say(text) {
  element('announcer').textContent = text;
  const note = make('p', 'toast', text);
  document.body.append(note);
  setTimeout(() => note.remove(), 8000);
}

const LINKS = { live: 'live', broken: 'no connection, trying again', asking: 'live, asked for', waiting: 'connecting', token: 'needs the token' };

function setLink(state) {
  const link = element('link');
  if (link.dataset.state === state) return;
  link.dataset.state = state;
  link.lastElementChild.textContent = LINKS[state];
  // What was missed in between is in the history.
  if (state === 'broken') hasHistory = false;
  document.body.classList.toggle('stale', state === 'broken' && sample !== null);
}

function showToken() {
  const button = element('token-button');
  button.hidden = !sample.can_change && !hasToken();
  setText(button, hasToken() ? 'Token: given' : 'Token');
}

function unauthorized() {
  setLink('token');
  if (!sample) setText(element('verdict-line'), 'This proxy tells nothing without its token.');
  orders.askToken('This proxy is read with its admin token only.', hasToken() ? 'The token that is kept here is not the right one.' : '');
}

/** There is another token, or none. */
function afterToken() {
  if (sample) showToken();
  if (element('link').dataset.state === 'token') {
    setLink('waiting');
    watch.again();
  }
  drawn = '';
}

function showPage() {
  const isPlan = location.hash === '#plan';
  element('live').hidden = isPlan;
  element('plan').hidden = !isPlan;
  for (const [link, isHere] of [['to-live', !isPlan], ['to-plan', isPlan]]) {
    if (isHere) element(link).setAttribute('aria-current', 'page');
    else element(link).removeAttribute('aria-current');
  }
  if (!isPlan) show();
}

addEventListener('hashchange', showPage);
showPage();
element('token-button').addEventListener('click', () => orders.askToken('Drain, restore and weights need the admin token.'));
element('token').addEventListener('close', () => {
  // Without it there is nothing to see: whoever closed the dialog finds the button.
  if (element('link').dataset.state === 'token') element('token-button').hidden = false;
});
onThemeChange(() => {
  table.recolour();
  show();
  lookup.redraw();
});
// Loads change without an event: what is shown about a key follows.
setInterval(() => !document.hidden && lookup.again(), 2000);
addEventListener('keydown', (event) => {
  const isTyping = event.target.closest('input, textarea, dialog');
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    element('lookup-key').focus();
  }
});
