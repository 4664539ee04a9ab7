// What has changed, as it happens. Owns the list, and what is read out to those who do not see it.

import { clock, element, make, percent, standing } from './words.js';

const SHOWN = 200;
const READ_OUT_EVERY = 2500;

export class Events {
  #seen = new Set();
  #count = 0;
  #unread = [];
  #timer = 0;
  #isFresh = false;

  constructor() {
    // What happened before the page was opened is shown and not read out.
    setTimeout(() => (this.#isFresh = true), 1500);
  }

  /** Takes in a change, once, whichever connection it came by. */
  add(id, change) {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    if (this.#seen.size > 4 * SHOWN) this.#seen.delete(this.#seen.values().next().value);
    const { sign, kind, text, detail } = said(change);
    const item = make('li');
    item.dataset.kind = kind;
    const time = make('time', 'number', clock(change.time));
    time.dateTime = change.time;
    time.title = new Date(change.time).toLocaleString();
    const mark = make('span', 'sign', sign);
    mark.setAttribute('aria-hidden', 'true');
    const words = make('span', 'what', text);
    if (detail) words.append(make('small', '', detail));
    item.append(time, mark, words);
    this.#prepend(item);
    if (this.#isFresh) this.#readOut(text);
  }

  /** Some are missing: the page was away for too long. */
  lost() {
    const item = make('li');
    item.append(make('time'), make('span', 'sign', '…'), make('span', 'what', 'earlier changes are forgotten'));
    this.#prepend(item);
  }

  #prepend(item) {
    const list = element('events');
    list.prepend(item);
    while (list.children.length > SHOWN) list.lastChild.remove();
    this.#count = list.children.length;
    element('events-count').textContent = this.#count === SHOWN ? `the last ${SHOWN}` : `${this.#count}`;
  }

  /** Many at once become one sentence. */
  #readOut(text) {
    this.#unread.push(text);
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      const all = this.#unread.splice(0);
      element('announcer').textContent = all.length > 2 ? `${all.length} changes. The last: ${all.at(-1)}` : all.join('. ');
      this.#timer = 0;
    }, READ_OUT_EVERY);
  }
}

/** A change in words. */
export function said(change) {
  switch (change.kind) {
    case 'backend': {
      const { sign, grade } = standing(change.to);
      const kind = grade === 0 ? 'good' : grade >= 4 ? 'bad' : 'note';
      return { sign, kind, text: `${change.pool} / ${change.backend}: ${change.from} → ${change.to}`, detail: change.reason };
    }
    case 'order': {
      const what = change.order === 'none' ? 'restored' : change.order === 'drain' ? 'drained' : `given ${change.order}`;
      const moved = change.share_moved > 0 ? `${percent(change.share_moved)} of the pool’s keys move` : 'no key moves';
      return { sign: '✎', kind: 'note', text: `${change.pool} / ${change.backend}: ${what} by an operator`, detail: moved };
    }
    case 'reload':
      return change.done
        ? { sign: '⟳', kind: 'good', text: 'Configuration reloaded', detail: change.summary.replace(/^reloaded; /, '') }
        : { sign: '⟳', kind: 'bad', text: 'New configuration refused: the old one stays', detail: change.summary };
    default:
      return { sign: '·', kind: 'note', text: `${change.kind}`, detail: '' };
  }
}
