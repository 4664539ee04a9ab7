// What changes the proxy: drain, restore, weight. Owns the two dialogs; nothing is sent before a person has confirmed it.

import { Refused, hasToken, post, setToken } from './api.js';
import { element, percent } from './words.js';

export class Orders {
  #on;
  #pool = null;
  #backend = null;

  /** `on` has: done(text), token(). */
  constructor(on) {
    this.#on = on;
    const form = element('change-form');
    form.addEventListener('change', () => this.#explain());
    element('change-weight').addEventListener('input', () => this.#explain());
    element('change-cancel').addEventListener('click', () => element('change').close());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    element('token-cancel').addEventListener('click', () => element('token').close());
    element('token-forget').addEventListener('click', () => {
      setToken('');
      element('token').close();
      this.#on.token();
    });
    element('token-form').addEventListener('submit', (event) => {
      event.preventDefault();
      setToken(element('token-field').value.trim());
      element('token').close();
      this.#on.token();
    });
  }

  /** Asks for the token, and says what for. */
  askToken(why, problem = '') {
    if (element('token').open) return;
    element('token-why').textContent = why;
    element('token-field').value = '';
    element('token-forget').hidden = !hasToken();
    element('token-problem').textContent = problem;
    element('token-problem').hidden = !problem;
    element('token').showModal();
  }

  /** Asks what is to be done with a backend. */
  ask(pool, backend) {
    this.#pool = pool;
    this.#backend = backend;
    element('change-title').textContent = backend.name;
    const facts = [`pool ${pool.name}`, backend.standing, `${percent(backend.share)} of the keys`, `${backend.in_flight} in flight`];
    facts.push(backend.order === 'none' ? `weight ${backend.weight}` : `weight ${backend.weight} by order, configured ${backend.configured_weight}`);
    element('change-facts').textContent = facts.join(' · ');
    element('change-form').elements.what.value = backend.order === 'none' ? 'drain' : 'restore';
    element('change-weight').value = backend.configured_weight;
    element('change-token').value = '';
    this.#problem('');
    this.#explain();
    element('change').showModal();
  }

  #what() {
    return element('change-form').elements.what.value;
  }

  #explain() {
    const what = this.#what();
    const backend = this.#backend;
    const others = this.#pool.backends.filter((one) => one.standing === 'serving' && one.name !== backend.name).length;
    element('change-weight-row').hidden = what !== 'weight';
    element('change-token-row').hidden = hasToken();
    const effect = {
      drain: backend.share > 0 ? `${percent(backend.share)} of the pool’s keys get another owner.` : 'It has no keys: nothing moves.',
      restore: backend.order === 'none' ? 'Nothing is ordered: nothing changes.' : `Its weight becomes ${backend.configured_weight} again, and the keys that belong to it come back.`,
      weight: `Its weight becomes ${element('change-weight').value || '…'}; keys move in proportion, and only to or from it.`,
    }[what];
    const last = what === 'drain' && others === 0 ? ' It is the last one that serves: the pool would have nobody.' : '';
    element('change-effect').textContent = effect + last;
    element('change-effect').classList.toggle('problem', last !== '');
    element('change-do').textContent = { drain: `Drain ${backend.name}`, restore: `Restore ${backend.name}`, weight: `Set the weight of ${backend.name}` }[what];
  }

  #problem(text) {
    element('change-problem').textContent = text;
    element('change-problem').hidden = !text;
  }

  async #send() {
    const what = this.#what();
    if (!hasToken()) setToken(element('change-token').value.trim());
    if (!hasToken()) {
      this.#problem('Changes need the admin token.');
      element('change-token').focus();
      return;
    }
    const path = `api/pools/${encodeURIComponent(this.#pool.name)}/backends/${encodeURIComponent(this.#backend.name)}/${what}`;
    const value = what === 'weight' ? `?value=${encodeURIComponent(element('change-weight').value.trim())}` : '';
    element('change-do').disabled = true;
    try {
      const done = await post(path + value);
      element('change').close();
      const kept = done.not_kept ? ` Not kept over a restart: ${done.not_kept}.` : '';
      this.#on.done(`${this.#backend.name}: done. ${percent(done.share_moved)} of the keys move.${kept}`);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      if (problem.status === 401) {
        setToken('');
        this.#problem('That is not the token.');
        this.#explain();
        element('change-token').focus();
      } else {
        this.#problem(problem.message);
      }
    } finally {
      element('change-do').disabled = false;
    }
    this.#on.token();
  }
}
