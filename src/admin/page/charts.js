// The last minutes as lines. Owns the columns of numbers, as many as the proxy remembers.

import { element, make, number, setText } from './words.js';

const LENGTH = 300;

const TILES = [
  ['requests_per_second', 'Requests /s'],
  ['errors_per_second', 'Errors /s'],
  ['in_flight', 'In flight'],
  ['off_owner_per_second', 'Off owner /s'],
  ['spill_per_second', 'Spill /s'],
  ['repeats_per_second', 'Repeats /s'],
];

const CHARTS = [
  { title: 'Spill and repeats, per second', curves: [['spill_per_second', 'spill', 'warm'], ['repeats_per_second', 'repeats', 'cool'], ['off_owner_per_second', 'off owner in all', 'thin']] },
  { title: 'Requests, per second', curves: [['requests_per_second', 'requests', 'cool']] },
  { title: 'Errors, per second', curves: [['errors_per_second', 'errors', 'bad']] },
];

/** Columns of the same length, by name; as long as there are samples. */
const none = () => Object.fromEntries([...TILES, ['time']].map(([name]) => [name, []]));

export class Charts {
  #totals = none();
  #pools = new Map();
  #tiles = [];
  #charts = [];

  constructor() {
    for (const [name, title] of TILES) this.#tiles.push(this.#tile(name, title));
    const open = make('div', 'tile plain-tile');
    open.append(make('span', 'name', 'Connections'), make('b', 'value number', '–'));
    element('tiles').append(open);
    this.connections = open.lastChild;
    for (const chart of CHARTS) this.#charts.push(this.#chart(chart));
  }

  /** Takes in what was before this page. */
  begin(history) {
    const times = history.times;
    const fill = (columns, from) => {
      for (const [name] of TILES) columns[name] = (from[name] ?? []).slice(-LENGTH);
      columns.time = times.slice(-LENGTH);
    };
    fill(this.#totals, history.totals);
    this.#pools.clear();
    for (const [name, from] of Object.entries(history.pools)) {
      const columns = none();
      fill(columns, from);
      this.#pools.set(name, columns);
    }
  }

  /** Takes in a sample, once. */
  add(sample) {
    const time = Date.parse(sample.time);
    if (this.#totals.time.at(-1) >= time) return;
    push(this.#totals, time, sample.totals);
    const there = new Set();
    for (const pool of sample.pools) {
      there.add(pool.name);
      if (!this.#pools.has(pool.name)) this.#pools.set(pool.name, none());
      const off = Object.values(pool.off_owner_per_second).reduce((sum, rate) => sum + rate, 0);
      push(this.#pools.get(pool.name), time, { ...pool, off_owner_per_second: off });
    }
    for (const name of this.#pools.keys()) if (!there.has(name)) this.#pools.delete(name);
    setText(this.connections, number(sample.totals.connections));
  }

  /** The mean of a pool's figure over the last ten samples. */
  mean(pool, figure) {
    const last = this.#pools.get(pool)?.[figure].slice(-10) ?? [];
    return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
  }

  /** Draws, the pool's charts for this one. */
  draw(pool) {
    for (const tile of this.#tiles) tile.draw(this.#totals);
    const columns = this.#pools.get(pool) ?? none();
    for (const chart of this.#charts) chart.draw(columns);
  }

  #tile(name, title) {
    const node = element('tile').content.firstElementChild.cloneNode(true);
    node.querySelector('.name').textContent = title;
    node.dataset.name = name;
    const value = node.querySelector('.value');
    const [area, line] = node.querySelectorAll('path');
    element('tiles').append(node);
    const draw = (columns) => {
      const last = columns[name].at(-1);
      setText(value, number(last));
      node.classList.toggle('hot', name === 'errors_per_second' && last > 0);
      const path = curve(columns, name, 300, 40, peak(columns, [name]));
      line.setAttribute('d', path.line);
      area.setAttribute('d', path.area);
    };
    return { draw };
  }

  #chart({ title, curves }) {
    const node = element('chart').content.firstElementChild.cloneNode(true);
    const caption = node.querySelector('figcaption');
    const svg = node.querySelector('svg');
    const cursor = node.querySelector('.cursor');
    const top = node.querySelector('.top');
    caption.append(make('b', '', title));
    const labels = [];
    const paths = curves.map(([, label, kind]) => {
      const path = element('curve').content.querySelector('path').cloneNode();
      path.setAttribute('class', `line ${kind}`);
      svg.insertBefore(path, cursor);
      const tag = make('span', `tag ${kind}`);
      tag.append(make('i'), document.createTextNode(` ${label} `), make('b', 'number', '–'));
      caption.append(tag);
      labels.push(tag.lastChild);
      return path;
    });
    element('charts').append(node);
    const names = curves.map(([name]) => name);
    let columns = none();
    let at = null;
    const say = () => {
      const index = at === null ? columns.time.length - 1 : at;
      names.forEach((name, i) => setText(labels[i], number(columns[name][index])));
      const when = columns.time[index];
      node.dataset.when = at === null || !when ? '' : new Date(when).toLocaleTimeString(undefined, { hour12: false });
    };
    node.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const length = columns.time.length;
      const place = Math.round(((event.clientX - box.left) / box.width) * (LENGTH - 1)) - (LENGTH - length);
      at = place >= 0 && place < length ? place : null;
      const x = at === null ? -9 : ((at + LENGTH - length) / (LENGTH - 1)) * 600;
      cursor.setAttribute('x1', x);
      cursor.setAttribute('x2', x);
      say();
    });
    node.addEventListener('pointerleave', () => {
      at = null;
      cursor.setAttribute('x1', -9);
      cursor.setAttribute('x2', -9);
      say();
    });
    const draw = (now) => {
      columns = now;
      const most = nice(peak(columns, names));
      names.forEach((name, i) => paths[i].setAttribute('d', curve(columns, name, 600, 140, most).line));
      setText(top, number(most));
      say();
    };
    return { draw };
  }
}

function push(columns, time, figures) {
  for (const [name] of TILES) {
    columns[name].push(figures[name]);
    if (columns[name].length > LENGTH) columns[name].shift();
  }
  columns.time.push(time);
  if (columns.time.length > LENGTH) columns.time.shift();
}

const peak = (columns, names) => names.reduce((most, name) => Math.max(most, ...columns[name]), 0) || 1;

/** The next number that is 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** A line through a column whose end is now. */
function curve(columns, name, width, height, most) {
  const values = columns[name];
  if (values.length < 2) return { line: '', area: '' };
  const step = width / (LENGTH - 1);
  const begin = (LENGTH - values.length) * step;
  const points = values.map((value, at) =>
    `${(begin + at * step).toFixed(1)} ${(height - 1 - (value / most) * (height - 3)).toFixed(1)}`);
  const line = `M${points.join('L')}`;
  return { line, area: `${line}V${height}H${begin.toFixed(1)}Z` };
}
