// Says first what an operator wants to know first: is anything wrong, and where. Owns the sentences.

import { ago, element, make, number, percent, standing } from './words.js';

/** The most that are listed: beyond, a number says enough. */
const LISTED = 6;

/**
 * What is wrong, the worst first: { grade, sign, text, pool, backend }. 3: an outage, 2: wrong, 1: worth knowing. `mean` gives the mean of a
 * pool's figure over the last seconds: one sample is no reason to wake anybody.
 */
export function findings(sample, mean) {
  const found = [];
  const now = Date.parse(sample.time);
  if (sample.draining) found.push({ grade: 3, sign: '‖', text: 'This proxy is draining: it takes no new connections.' });
  else if (!sample.ready) found.push({ grade: 2, sign: '○', text: 'Starting: not every backend has been probed yet.' });
  for (const pool of sample.pools) {
    const total = pool.backends.length;
    if (pool.serving === 0 && total > 0) {
      found.push({ grade: 3, sign: '✕', text: `Pool ${pool.name}: no backend serves.`, pool: pool.name });
    }
    for (const backend of pool.backends) {
      const { sign, grade } = standing(backend.standing);
      if (grade === 0) continue;
      const why = backend.reason ? `: ${backend.reason}` : '';
      const text = `${backend.name} is ${backend.standing} for ${ago(backend.since, now)}${why}`;
      found.push({ grade: grade >= 4 ? 2 : 1, sign, text, pool: pool.name, backend: backend.name });
    }
    load(pool, (figure) => mean(pool.name, figure), found);
  }
  return found.sort((a, b) => b.grade - a.grade);
}

/** What the figures of a pool say. */
function load(pool, mean, found) {
  const [requests, errors, spill, repeats] = ['requests_per_second', 'errors_per_second', 'spill_per_second', 'repeats_per_second'].map(mean);
  const part = (rate) => (requests > 0 ? rate / requests : 0);
  const add = (grade, sign, text, backend) =>
    found.push({ grade, sign, text: `Pool ${pool.name}: ${text}`, pool: pool.name, backend });
  if (part(errors) > 0.01) {
    add(2, '!', `${percent(part(errors))} of the requests end in an error (${number(errors)}/s).`);
  }
  const most = pool.backends.reduce((most, backend) => (backend.in_flight > (most?.in_flight ?? 0) ? backend : most), null);
  if (part(spill) > 0.01) {
    const who = most?.in_flight >= 5 ? ` Busiest: ${most.name} with ${most.in_flight} in flight.` : '';
    add(1, '↷', `${percent(part(spill))} of the requests spill past a busy owner (${number(spill)}/s).${who}`, most?.name);
  }
  if (part(repeats) > 0.01) {
    add(1, '↻', `${number(repeats)} repeats/s: attempts fail and are made again elsewhere.`);
  }
  const waiting = pool.backends.filter((backend) => backend.waiting > 0);
  if (waiting.length) {
    const worst = waiting.reduce((a, b) => (a.waiting >= b.waiting ? a : b));
    add(1, '…', `${number(waiting.reduce((sum, backend) => sum + backend.waiting, 0))} requests wait for a place, the most at ${worst.name}.`, worst.name);
  }
}

/** Shows them. `go` is called with a pool and a backend that the person wants to see. */
export function show(sample, mean, go) {
  const found = findings(sample, mean);
  const backends = sample.pools.flatMap((pool) => pool.backends);
  const serving = sample.pools.reduce((sum, pool) => sum + pool.serving, 0);
  const worst = found[0]?.grade ?? 0;
  const out = backends.filter((backend) => standing(backend.standing).grade >= 4).length;
  const rest = backends.length - serving;
  const box = element('verdict');
  box.dataset.state = ['well', 'note', 'wrong', 'outage'][worst];
  const count = `${serving} of ${backends.length} backends serve`;
  const line = worst === 0 ? `Nothing is wrong. ${count}.`
    : out > 0 ? `${out} ${out === 1 ? 'backend is' : 'backends are'} out. ${count}.`
    : worst === 1 ? (rest > 0 ? `${count}; nothing is broken.` : `${count}; worth a look:`)
    : `${found[0].text.replace(/\.$/, '')}. ${count}.`;
  const heading = element('verdict-line');
  if (heading.textContent !== line) heading.textContent = line;
  list(found, sample.pools.length > 1, go);
  document.title = out > 0 ? `✕ ${out} out – Ringway` : worst >= 2 ? '! Ringway' : 'Ringway';
}

function list(found, withPool, go) {
  const rows = found.slice(0, LISTED).map((one) => {
    const where = withPool && one.backend && !one.text.startsWith('Pool') ? `${one.pool} / ` : '';
    return { ...one, text: where + one.text };
  });
  if (found.length > LISTED) rows.push({ sign: '', grade: 1, text: `and ${found.length - LISTED} more` });
  const into = element('verdict-list');
  while (into.children.length > rows.length) into.lastChild.remove();
  while (into.children.length < rows.length) {
    const item = into.appendChild(make('li'));
    item.append(make('span', 'sign'), make('button', 'plain'));
    item.firstChild.setAttribute('aria-hidden', 'true');
    item.lastChild.type = 'button';
    item.lastChild.addEventListener('click', () => item.go?.());
  }
  rows.forEach((row, at) => {
    const item = into.children[at];
    item.dataset.grade = row.grade;
    if (item.firstChild.textContent !== row.sign) item.firstChild.textContent = row.sign;
    if (item.lastChild.textContent !== row.text) item.lastChild.textContent = row.text;
    item.lastChild.disabled = !row.pool;
    item.go = row.pool ? () => go(row.pool, row.backend) : null;
  });
}
