// "Who owns …?" Owns the question that was asked last, and asks it again whenever something changes.

import { Refused, get, query } from './api.js';
import { drawStrip } from './ring.js';
import { element, make, setText, standing } from './words.js';

/** Owners that are listed: a walk meets all backends. */
const LISTED = 5;

export class Lookup {
  #on;
  #asked = null;
  #last = null;
  #isBusy = false;

  /** `on` has: pool(), found(pool, key), hover(name), unauthorized(). */
  constructor(on) {
    this.#on = on;
    element('lookup').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#begin();
    });
    element('lookup-clear').addEventListener('click', () => this.clear());
    new ResizeObserver(() => this.redraw()).observe(element('strip').parentElement);
  }

  clear() {
    this.#asked = this.#last = null;
    element('answer').hidden = true;
    element('lookup-clear').hidden = true;
    element('lookup-key').value = '';
    this.#on.found(null, null);
  }

  /** Asks the same again; and what was asked for in the meantime, at once after that. */
  async again() {
    if (!this.#asked || this.#isBusy) return;
    this.#isBusy = true;
    try {
      for (let done = null; this.#asked && this.#asked !== done; ) {
        done = this.#asked;
        await this.#ask();
      }
    } finally {
      this.#isBusy = false;
    }
  }

  redraw() {
    if (this.#last) drawStrip(element('strip'), this.#last.walk, this.#last.ring, this.#last.owners);
  }

  #begin() {
    const form = element('lookup').elements;
    const isRequest = element('lookup-request').open && form.uri.value !== '';
    if (isRequest) {
      const headers = form.headers.value.split('\n').map((line) => line.trim()).filter(Boolean);
      this.#asked = { path: query('api/lookup', [
        ['uri', form.uri.value], ['method', form.method.value], ['host', form.host.value],
        ['client', form.client.value], ...headers.map((header) => ['header', header]),
      ]) };
    } else {
      this.#asked = { key: form.key.value };
    }
    this.again();
  }

  async #ask() {
    const asked = this.#asked;
    const path = asked.path ?? query('api/lookup', [['pool', this.#on.pool()], ['key', asked.key]]);
    try {
      const answer = await get(path);
      const ring = answer.place_hex ? await get(query('api/ring', [['pool', answer.pool], ['place', answer.place_hex], ['resolution', '0']])) : null;
      if (asked === this.#asked) this.#show(answer, ring);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      if (problem.status === 401) this.#on.unauthorized();
      if (asked === this.#asked) this.#fail(problem.message);
    }
  }

  #fail(message) {
    element('answer').hidden = false;
    element('lookup-clear').hidden = false;
    setText(element('answer-summary'), message);
    element('answer').dataset.state = 'problem';
    element('answer-facts').textContent = '';
    element('answer-owners').replaceChildren();
    element('strip').hidden = true;
    this.#last = null;
    this.#on.found(null, null);
  }

  #show(answer, ring) {
    element('answer').hidden = false;
    element('lookup-clear').hidden = false;
    element('answer').dataset.state = answer.chosen ? answer.chosen.reason === 'owner' ? 'owner' : 'other' : 'problem';
    setText(element('answer-summary'), `${answer.summary}.`.replace(/\.\.$/, '.'));
    const facts = [`pool ${answer.pool}`];
    if (answer.key !== null && answer.key_source) facts.push(`key “${answer.key}” from ${answer.key_source}`);
    if (answer.place_hex) facts.push(`place ${answer.place_hex}`);
    setText(element('answer-facts'), facts.join(' · '));
    const chosen = answer.chosen?.backend;
    const before = answer.owners.findIndex((owner) => owner.backend === chosen);
    const owners = answer.owners.map((owner, at) => ({
      name: owner.backend,
      isChosen: owner.backend === chosen,
      isSkipped: owner.skipped != null || (chosen !== undefined && at < before),
      standing: owner.standing,
      why: owner.why ?? owner.standing_reason,
    }));
    this.#list(owners);
    element('strip').hidden = !ring;
    this.#last = ring && { ring, owners, walk: ring.walk };
    this.redraw();
    const key = ring && { place: Number(BigInt(`0x${answer.place_hex}`) >> 12n) / 2 ** 52, owners };
    this.#on.found(answer.pool, key);
  }

  #list(owners) {
    const items = owners.slice(0, LISTED).map((owner) => {
      const item = make('li', owner.isChosen ? 'chosen' : owner.isSkipped ? 'skipped' : '');
      const sign = make('span', 'sign', standing(owner.standing).sign);
      sign.setAttribute('aria-hidden', 'true');
      item.append(sign, make('b', '', owner.name), make('span', 'faint', ` ${owner.standing}`));
      if (owner.isChosen) item.append(make('span', 'badge', 'gets it now'));
      if (owner.why) item.append(make('small', '', owner.why));
      item.addEventListener('pointerenter', () => this.#on.hover(owner.name));
      item.addEventListener('pointerleave', () => this.#on.hover(null));
      return item;
    });
    if (owners.length > LISTED) items.push(make('li', 'more', `and ${owners.length - LISTED} more`));
    element('answer-owners').replaceChildren(...items);
  }
}
