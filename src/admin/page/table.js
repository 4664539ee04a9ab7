// The table of backends. Owns rows, their order, and which of them are shown.

import { ago, colour, element, isDark, make, number, percent, seconds, setText, standing } from './words.js';

const COLUMNS = [
  { key: 'standing', title: 'Standing', value: (b) => -standing(b.standing).grade, first: 1 },
  { key: 'name', title: 'Backend', value: (b) => b.name, first: 1 },
  { key: 'share', title: 'Share', value: (b) => b.share, first: -1, number: true },
  { key: 'requests', title: 'Req/s', value: (b) => b.requests_per_second, first: -1, number: true },
  { key: 'errors', title: 'Err/s', value: (b) => b.errors_per_second, first: -1, number: true },
  { key: 'flight', title: 'In flight', value: (b) => b.in_flight, first: -1, number: true },
  { key: 'p50', title: 'p50', value: (b) => b.first_byte_p50 ?? -1, first: -1, number: true },
  { key: 'p99', title: 'p99', value: (b) => b.first_byte_p99 ?? -1, first: -1, number: true },
];

/** Rows that jump about can't be read: an order by figures is made anew only so often. */
const SORT_EVERY = 3000;

export class Table {
  #on;
  #rows = new Map();
  #by = COLUMNS[0];
  #direction = 1;
  #sorted = 0;
  #pool = null;
  #selected = null;
  #canChange = false;
  #now = 0;
  #isHeld = false;

  /** `on` has: select(name), hover(name), change(backend). */
  constructor(on) {
    this.#on = on;
    const head = element('columns');
    for (const column of COLUMNS) {
      const cell = make('th', `c-${column.key}${column.number ? ' number' : ''}`);
      cell.scope = 'col';
      cell.setAttribute('role', 'columnheader');
      const button = make('button', 'plain', column.title);
      button.type = 'button';
      button.addEventListener('click', () => this.#sortBy(column));
      cell.append(button);
      head.append(cell);
      column.cell = cell;
    }
    const last = make('th', 'c-change');
    last.setAttribute('role', 'columnheader');
    last.append(make('span', 'unseen', 'Change'));
    head.append(last);
    element('filter').addEventListener('input', () => this.#filter());
    element('only-trouble').addEventListener('change', () => this.#filter());
    const body = element('rows');
    const name = (event) => event.target.closest('tr')?.dataset.name ?? null;
    body.addEventListener('pointerover', (event) => this.#on.hover(name(event)));
    body.addEventListener('pointerleave', () => this.#on.hover(null));
    body.addEventListener('pointerenter', () => (this.#isHeld = true));
    body.addEventListener('pointerleave', () => (this.#isHeld = false));
    body.addEventListener('click', (event) => {
      if (!event.target.closest('button.change')) this.#on.select(name(event));
    });
    this.#mark();
  }

  /** Shows a pool as it is now. */
  show(pool, now, canChange) {
    const isOther = this.#pool?.name !== pool.name;
    this.#now = now;
    this.#canChange = canChange;
    if (isOther) {
      element('rows').replaceChildren();
      this.#rows.clear();
      this.#sorted = 0;
    }
    this.#pool = pool;
    const gone = new Set(this.#rows.keys());
    const most = Math.max(...pool.backends.map((backend) => backend.share), 1e-9);
    let isNew = false;
    pool.backends.forEach((backend, index) => {
      gone.delete(backend.name);
      let row = this.#rows.get(backend.name);
      if (!row) {
        row = this.#row(backend.name);
        this.#rows.set(backend.name, row);
        isNew = true;
      }
      this.#fill(row, backend, index, pool.backends.length, most);
    });
    for (const name of gone) {
      this.#rows.get(name).node.remove();
      this.#rows.delete(name);
    }
    this.#sort(isNew);
    this.#filter();
  }

  select(name) {
    this.#rows.get(this.#selected)?.mark(false);
    this.#selected = name;
    this.#rows.get(name)?.mark(true);
  }

  /** Brings a backend's row into view, past filters. */
  reveal(name) {
    const row = this.#rows.get(name);
    if (!row) return;
    if (row.node.hidden) {
      element('filter').value = '';
      element('only-trouble').checked = false;
      this.#filter();
    }
    row.node.scrollIntoView({ block: 'nearest' });
  }

  /** Draws colours anew. */
  recolour() {
    this.#rows.forEach((row) => (row.colour = ''));
  }

  #row(name) {
    const node = make('tr');
    node.dataset.name = name;
    node.setAttribute('role', 'row');
    const cells = {};
    for (const { key, title, number: isNumber } of COLUMNS) {
      const cell = make('td', `c-${key}${isNumber ? ' number' : ''}`);
      cell.setAttribute('role', 'cell');
      cell.dataset.title = title;
      cells[key] = cell;
      node.append(cell);
    }
    const sign = make('span', 'sign');
    sign.setAttribute('aria-hidden', 'true');
    const word = make('span', 'word');
    const since = make('small', 'since');
    cells.standing.append(sign, word, since);
    const swatch = make('i', 'swatch');
    const button = make('button', 'plain name', name);
    button.type = 'button';
    button.setAttribute('aria-pressed', 'false');
    const why = make('small', 'why');
    cells.name.append(swatch, button, why);
    const bar = make('i', 'bar');
    const share = make('span');
    cells.share.append(bar, share);
    const last = make('td', 'c-change');
    last.setAttribute('role', 'cell');
    const change = make('button', 'change quiet', '⋯');
    change.type = 'button';
    change.setAttribute('aria-label', `Change ${name}`);
    change.title = 'Drain, restore, or give another weight';
    change.addEventListener('click', () => this.#on.change(row.backend));
    last.append(change);
    node.append(last);
    const mark = (isOn) => {
      node.classList.toggle('selected', isOn);
      button.setAttribute('aria-pressed', String(isOn));
    };
    const row = { node, cells, sign, word, since, swatch, why, bar, share, change, mark, colour: '', backend: null };
    element('rows').append(node);
    mark(name === this.#selected);
    return row;
  }

  #fill(row, backend, index, count, most) {
    const { grade, sign } = standing(backend.standing);
    row.backend = backend;
    row.node.dataset.grade = grade;
    setText(row.sign, sign);
    setText(row.word, backend.standing);
    setText(row.since, ago(backend.since, this.#now));
    const colourNow = colour(index, count, isDark());
    if (row.colour !== colourNow) {
      row.colour = colourNow;
      row.swatch.style.background = colourNow;
      row.bar.style.background = colourNow;
    }
    setText(row.why, this.#why(backend, grade));
    setText(row.share, percent(backend.share));
    row.bar.style.width = `${(backend.share / most) * 100}%`;
    setText(row.cells.requests, number(backend.requests_per_second));
    setText(row.cells.errors, number(backend.errors_per_second));
    row.cells.errors.classList.toggle('hot', backend.errors_per_second > 0);
    const waiting = backend.waiting ? ` +${backend.waiting}` : '';
    const limit = backend.limit === null ? '' : ` / ${backend.limit}`;
    setText(row.cells.flight, `${backend.in_flight}${limit}${waiting}`);
    row.cells.flight.classList.toggle('hot', backend.waiting > 0 || (backend.limit !== null && backend.in_flight >= backend.limit));
    setText(row.cells.p50, seconds(backend.first_byte_p50));
    setText(row.cells.p99, seconds(backend.first_byte_p99));
    row.change.hidden = !this.#canChange;
  }

  /** What is to be known beside the figures. */
  #why(backend, grade) {
    const parts = [];
    if (grade > 0 && backend.reason) parts.push(backend.reason);
    if (backend.order === 'weight') parts.push(`weight ${backend.weight} by an operator’s order, configured ${backend.configured_weight}`);
    else if (backend.weight !== '1' && grade !== 1) parts.push(`weight ${backend.weight}`);
    if (backend.ramp !== null) parts.push(`takes its keys one after the other: ${percent(backend.ramp)}`);
    if (backend.waiting) parts.push(`${backend.waiting} waiting`);
    return parts.join(' · ');
  }

  #sortBy(column) {
    this.#direction = this.#by === column ? -this.#direction : column.first;
    this.#by = column;
    this.#mark();
    this.#sort(true);
  }

  #mark() {
    for (const column of COLUMNS) {
      if (column === this.#by) column.cell.setAttribute('aria-sort', this.#direction > 0 ? 'ascending' : 'descending');
      else column.cell.removeAttribute('aria-sort');
    }
  }

  #sort(isDue) {
    const now = performance.now();
    const body = element('rows');
    const isBusy = this.#isHeld || body.contains(document.activeElement);
    if (!isDue && (isBusy || now - this.#sorted < SORT_EVERY)) return;
    this.#sorted = now;
    const { value } = this.#by;
    const byName = (a, b) => a.backend.name.localeCompare(b.backend.name, undefined, { numeric: true });
    const rows = [...this.#rows.values()].sort((a, b) => {
      const [x, y] = [value(a.backend), value(b.backend)];
      const order = typeof x === 'string' ? byName(a, b) : x - y;
      return order * this.#direction || byName(a, b);
    });
    // Only rows that are out of place are moved: a focus inside stays where it is.
    let at = body.firstElementChild;
    for (const { node } of rows) {
      if (node === at) at = at.nextElementSibling;
      else body.insertBefore(node, at);
    }
  }

  #filter() {
    const words = element('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    const isTrouble = element('only-trouble').checked;
    let shown = 0;
    for (const { node, backend } of this.#rows.values()) {
      const text = `${backend.name} ${backend.standing} ${backend.reason} ${backend.order}`.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!isTrouble || backend.standing !== 'serving');
      if (node.hidden === fits) node.hidden = !fits;
      shown += fits;
    }
    const all = this.#rows.size;
    setText(element('shown'), shown === all ? `${all}` : `${shown} of ${all}`);
    element('no-rows').hidden = shown > 0;
  }
}
