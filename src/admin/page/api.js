// The way to the proxy: questions, orders, and the stream of events. Owns the token, which stays in this tab.

const KEPT = 'ringway-token';
let token = sessionStorage.getItem(KEPT) ?? '';

export const hasToken = () => token !== '';

export function setToken(to) {
  token = to;
  if (to) sessionStorage.setItem(KEPT, to);
  else sessionStorage.removeItem(KEPT);
}

/** An answer that is not the one that was hoped for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** So long for a whole answer: comparing large configurations takes a while, a figure does not. */
const READ_LIMIT = 15_000;
const POST_LIMIT = 60_000;

async function ask(path, options = {}) {
  let answer;
  let text;
  const signal = AbortSignal.timeout(options.method === 'POST' ? POST_LIMIT : READ_LIMIT);
  try {
    answer = await fetch(path, { cache: 'no-store', signal, ...options, headers: headers(options.headers) });
    text = await answer.text();
  } catch {
    throw new Refused(0, signal.aborted ? 'the proxy has not answered in time' : 'the proxy can’t be reached');
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.trim() };
  }
  if (!answer.ok) throw new Refused(answer.status, problem(body) || `status ${answer.status}`);
  return body;
}

const problem = (body) => body.error ?? body.errors?.map?.((one) => one.message ?? String(one)).join('\n') ?? '';

export const get = (path) => ask(path);
export const post = (path, body, kind) =>
  ask(path, { method: 'POST', body, headers: kind ? { 'Content-Type': kind } : {} });

/** The path of a query, from names and values. */
export function query(path, parameters) {
  const filled = parameters.filter(([, value]) => value !== undefined && value !== '');
  return filled.length ? `${path}?${new URLSearchParams(filled)}` : path;
}

const RETRY = 2000;
const RETRY_MOST = 15_000;
/** A sample is due each second: so long without a byte, and the connection is taken for dead. */
const SILENCE = 8000;
/** A tab that nobody sees leaves its place to others, and looks now and then. */
const UNSEEN_AFTER = 5000;
const UNSEEN_EVERY = 20_000;

/**
 * Watches for as long as the page lives. `EventSource` can't send a token, so the stream is read by hand.
 * `on` has: sample(sample), change(id, change), lost(), state(name), unauthorized().
 */
export class Watch {
  #on;
  #id = '';
  #wait = RETRY;
  #stop = null;
  #timer = 0;

  constructor(on) {
    this.#on = on;
    document.addEventListener('visibilitychange', () => this.#seen());
    // A page that is opened in a tab behind others is told of nothing until it is looked at. It rests from the beginning.
    if (document.hidden) this.#rest();
    else this.again();
  }

  /** Begins anew, at once: there may be another token. */
  again() {
    clearTimeout(this.#timer);
    this.#stop?.abort();
    this.#wait = RETRY;
    this.#run();
  }

  #seen() {
    if (document.hidden) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#rest(), UNSEEN_AFTER);
    } else {
      this.again();
    }
  }

  /** Unseen: a question now and then, so that the tab's title is right. */
  async #rest() {
    this.#stop?.abort();
    try {
      this.#on.sample(await get('api/live'));
    } catch {
      this.#on.state('broken');
    }
    if (document.hidden) this.#timer = setTimeout(() => this.#rest(), UNSEEN_EVERY);
  }

  async #run() {
    const stop = new AbortController();
    this.#stop = stop;
    let alive = 0;
    const heard = () => {
      clearTimeout(alive);
      alive = setTimeout(() => stop.abort(), SILENCE);
    };
    heard();
    let state = 'broken';
    try {
      const more = this.#id ? { 'Last-Event-ID': this.#id } : {};
      const answer = await fetch('api/events', { cache: 'no-store', headers: headers(more), signal: stop.signal });
      if (answer.status === 401) {
        clearTimeout(alive);
        this.#on.unauthorized();
        return;
      }
      if (answer.status === 503) {
        // All places to watch from are taken: the figures can be asked for all the same.
        this.#on.sample(await get('api/live'));
        state = 'asking';
        this.#wait = RETRY;
      } else if (answer.ok) {
        await this.#read(answer.body, heard);
      }
    } catch {
      // The end of a stream, however it came, is followed by another try.
    }
    clearTimeout(alive);
    if (this.#stop !== stop || document.hidden) return;
    this.#on.state(state);
    this.#timer = setTimeout(() => this.#run(), this.#wait * (0.75 + Math.random() / 2));
    this.#wait = Math.min(this.#wait * 1.5, RETRY_MOST);
  }

  async #read(stream, heard) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      text += value;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) this.#take(text.slice(0, end));
    }
  }

  #take(event) {
    const field = { event: '', data: '', id: '' };
    for (const line of event.split('\n')) {
      const at = line.indexOf(': ');
      if (at > 0) field[line.slice(0, at)] = line.slice(at + 2);
    }
    if (field.id) this.#id = field.id;
    if (field.event === 'sample') {
      this.#wait = RETRY;
      this.#on.state('live');
      this.#on.sample(JSON.parse(field.data));
    } else if (field.event === 'change') {
      this.#on.change(field.id, JSON.parse(field.data));
    } else if (field.event === 'lost') {
      this.#on.lost();
    }
  }
}
