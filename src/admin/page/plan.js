// A configuration that is not in force yet: what it would move. Owns the form and the report.

import { Refused, get, hasToken, post } from './api.js';
import { element, make, percent } from './words.js';

/** Rows of a table: the rest is a number. */
const ROWS = 40;

export class Plan {
  #on;

  /** `on` has: unauthorized(why). */
  constructor(on) {
    this.#on = on;
    element('plan-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#compare();
    });
    element('plan-running').addEventListener('click', () => this.#running());
    element('plan-file').addEventListener('change', async (event) => {
      const [file] = event.target.files;
      if (file) element('plan-text').value = await file.text();
      event.target.value = '';
    });
  }

  async #running() {
    try {
      element('plan-text').value = (await get('api/config')).text;
    } catch (problem) {
      this.#fail(problem);
    }
  }

  async #compare() {
    const button = element('plan-form').querySelector('.main');
    button.disabled = true;
    try {
      this.#show(await post('api/plan', element('plan-text').value, 'application/toml'));
    } catch (problem) {
      this.#fail(problem);
    } finally {
      button.disabled = false;
    }
  }

  #fail(problem) {
    if (!(problem instanceof Refused)) throw problem;
    const into = element('plan-result');
    if (problem.status === 401) {
      this.#on.unauthorized('Comparing configurations needs the admin token.', hasToken());
      return;
    }
    if (problem.status === 404 || problem.status === 405) {
      into.replaceChildren(make('p', 'notice', 'This Ringway does not compare configurations over its API. On the command line: ringway plan OLD NEW.'));
      return;
    }
    into.replaceChildren(make('h2', '', 'It can’t be compared'), make('pre', 'problem', problem.message));
  }

  #show(told) {
    const parts = [];
    const line = make('p', 'headline');
    if (told.moves && !told.share_moved) {
      line.textContent = 'No key moves on any ring. Routes or key sources differ: requests may have other keys, or other pools.';
    } else {
      line.append(make('b', 'number', percent(told.share_moved)), document.createTextNode(told.moves ? ' of the keys move, in the pool where most do.' : ' – no key moves.'));
    }
    parts.push(line);
    for (const [names, what] of [[told.pools_added, 'New pools'], [told.pools_removed, 'Pools that go, with all their keys']]) {
      if (names?.length) parts.push(make('p', '', `${what}: ${names.join(', ')}.`));
    }
    for (const note of told.notes ?? []) parts.push(make('p', 'notice', note));
    for (const pool of told.pools ?? []) parts.push(...this.#pool(pool));
    element('plan-result').replaceChildren(...parts);
  }

  #pool(pool) {
    const title = make('h2', '', `Pool ${pool.name}: ${percent(pool.share_moved)} move`);
    const parts = [title];
    const { before, after } = pool;
    if (before && after) {
      parts.push(make('p', 'facts', [
        `backends ${before.backends} → ${after.backends}`,
        `imbalance ${before.imbalance.toFixed(3)} → ${after.imbalance.toFixed(3)} (expected ${after.expected_imbalance.toFixed(3)})`,
        after.greatest ? `greatest share ${percent(after.greatest_share)} at ${after.greatest}` : '',
      ].filter(Boolean).join(' · ')));
    }
    for (const one of pool.renamed ?? []) {
      parts.push(make('p', 'notice', `${one.before} and ${one.after} are the same backend (${one.address}) under another name: all its keys move, because the name is what the ring hashes.`));
    }
    const changed = (pool.backends ?? []).filter((backend) => backend.change !== 'same' || Math.abs(backend.share_before - backend.share_after) > 1e-9);
    const both = make('div', 'columns even');
    if (pool.moved?.length) {
      both.append(table('From whom to whom', ['From', 'To', 'Share of the keys'],
        pool.moved.map((move) => [move.from ?? '–', move.to ?? '–', move.share]), pool.pairs_left_out ?? 0));
    }
    if (changed.length) {
      both.append(table('Backends', ['Backend', 'Change', 'Before', 'After'],
        changed.map((one) => [one.name, change(one), one.share_before, one.share_after]), 0));
    }
    if (both.children.length) parts.push(both);
    return parts;
  }
}

function change(backend) {
  switch (backend.change) {
    case 'same': return '';
    case 'reweighted': return `weight ${backend.weight_before} → ${backend.weight_after}`;
    case 'moved': return `${backend.address_before} → ${backend.address_after}`;
    default: return backend.change;
  }
}

/** A table; numbers are shares, with a bar beside the last one. */
function table(title, columns, rows, leftOut) {
  const made = make('table', 'plain-table');
  made.createCaption().textContent = title;
  const head = made.createTHead().insertRow();
  columns.forEach((column, at) => {
    const cell = make('th', typeof rows[0][at] === 'number' ? 'number' : '', column);
    cell.scope = 'col';
    head.append(cell);
  });
  const body = made.createTBody();
  const most = rows.reduce((most, row) => Math.max(most, row.at(-1)), 1e-9);
  for (const row of rows.slice(0, ROWS)) {
    const line = body.insertRow();
    row.forEach((value, at) => {
      const cell = line.insertCell();
      if (typeof value !== 'number') {
        cell.textContent = value;
        return;
      }
      cell.className = 'number';
      if (at === row.length - 1) {
        const bar = make('i', 'bar');
        bar.style.width = `${(value / most) * 100}%`;
        cell.append(bar);
      }
      cell.append(make('span', '', percent(value)));
    });
  }
  const more = rows.length - ROWS + leftOut;
  if (more > 0) {
    const cell = body.insertRow().insertCell();
    cell.colSpan = columns.length;
    cell.textContent = `and ${more} more`;
  }
  const box = make('div', 'scroll short');
  box.append(made);
  return box;
}
