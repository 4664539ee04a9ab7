// The ring, drawn. Owns a canvas: the circle of keys outside, and inside, for each backend, its share and how much of it it carries.
//
// Not by colour alone: who does not serve has notches in the circle, a hatched sector, and its sign.

import { colour, isDark, number, percent, standing } from './words.js';

const TURN = 2 * Math.PI;
/** Where the circle begins: at the top. */
const TOP = -Math.PI / 2;
/** The sectors' figures are smoothed, so that they can be looked at. */
const SMOOTH = 0.3;

export class Ring {
  #canvas;
  #middle;
  #on;
  #ring = null;
  #pool = null;
  #selected = null;
  #hovered = null;
  #key = null;
  #load = new Map();
  #size = 0;

  /** `on` has: select(name), hover(name). */
  constructor(canvas, middle, on) {
    this.#canvas = canvas;
    this.#middle = middle;
    this.#on = on;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener('pointermove', (event) => this.#on.hover(this.#at(event)));
    canvas.addEventListener('pointerleave', () => this.#on.hover(null));
    canvas.addEventListener('click', (event) => this.#on.select(this.#at(event)));
  }

  /** What `/api/ring` says. */
  setRing(ring) {
    this.#ring = ring;
    this.draw();
  }

  /** How the pool is now. */
  setPool(pool) {
    const total = pool.requests_per_second;
    // Anew, so that backends that have gone leave nothing behind.
    const load = new Map();
    for (const { name, share, requests_per_second: rate } of pool.backends) {
      const now = total > 0 && share > 0 ? rate / total / share : 0;
      const before = this.#pool?.name === pool.name ? this.#load.get(name) ?? now : now;
      load.set(name, before + (now - before) * SMOOTH);
    }
    this.#load = load;
    this.#pool = pool;
    this.draw();
  }

  select(name) {
    this.#selected = name;
    this.draw();
  }

  hover(name) {
    if (this.#hovered === name) return;
    this.#hovered = name;
    this.draw();
  }

  /** A key's place, from 0 to 1, and its owners: { place, owners: [{ name, isChosen, isSkipped }] }. `null`: none. */
  setKey(key) {
    this.#key = key;
    this.draw();
  }

  draw() {
    const size = this.#canvas.parentElement.clientWidth;
    if (!size) return;
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(size * scale)) {
      this.#canvas.width = this.#canvas.height = Math.round(size * scale);
      this.#canvas.style.width = this.#canvas.style.height = `${size}px`;
    }
    this.#size = size;
    const pen = this.#canvas.getContext('2d');
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, size, size);
    pen.translate(size / 2, size / 2);
    this.#tell();
    if (!this.#ring || !this.#pool) return;
    const style = getComputedStyle(this.#canvas);
    const ink = { text: style.getPropertyValue('--text'), faint: style.getPropertyValue('--faint'), line: style.getPropertyValue('--line'), back: style.getPropertyValue('--card'), bad: style.getPropertyValue('--bad') };
    const members = this.#members();
    this.#circle(pen, members, ink);
    this.#sectors(pen, members, ink);
    if (this.#key) this.#walk(pen, members, ink);
    this.#labels(pen, members, ink);
  }

  #radii() {
    const outer = this.#size / 2 - 16;
    return { outer, band: outer * 0.11, most: outer * 0.815, least: outer * 0.40 };
  }

  /** Backends by their number on the ring, with what is known about each. */
  #members() {
    const byName = new Map(this.#pool.backends.map((backend) => [backend.name, backend]));
    const count = this.#ring.backends.length;
    let at = 0;
    return this.#ring.backends.map((name, index) => {
      const backend = byName.get(name);
      const share = this.#ring.shares[index];
      const from = at;
      at += share;
      const word = backend?.standing ?? 'unproven';
      return { name, index, share, from, to: at, grade: standing(word).grade, sign: standing(word).sign, colour: colour(index, count, isDark()), load: this.#load.get(name) ?? 0 };
    });
  }

  #isDim(member) {
    const one = this.#hovered ?? this.#selected;
    return one !== null && one !== member.name;
  }

  #circle(pen, members, ink) {
    const { outer, band } = this.#radii();
    const { arcs } = this.#ring;
    pen.lineWidth = 1;
    // The ground, so that notches are seen as such.
    segment(pen, 0, 1, outer - band, outer);
    pen.fillStyle = ink.line;
    pen.globalAlpha = 0.45;
    pen.fill();
    arcs.forEach(([from, owner], at) => {
      const to = at + 1 < arcs.length ? arcs[at + 1][0] : 1;
      const member = members[owner];
      const isOut = member.grade >= 2;
      pen.globalAlpha = this.#isDim(member) ? 0.14 : 1;
      // A hair more than its width, so that no seam is seen.
      segment(pen, from, to + 0.0004, outer - band, isOut ? outer - band * 0.68 : outer);
      pen.fillStyle = member.colour;
      pen.fill();
    });
    pen.globalAlpha = 1;
  }

  #sectors(pen, members, ink) {
    const { most, least } = this.#radii();
    const fair = least + (most - least) / 2;
    const isFew = members.length <= 60;
    for (const member of members) {
      if (member.share === 0) continue;
      const gap = isFew ? Math.min(0.003, member.share / 8) : 0;
      const [from, to] = [member.from + gap / 2, member.to - gap / 2];
      pen.globalAlpha = this.#isDim(member) ? 0.05 : 0.13;
      segment(pen, from, to, least, most);
      pen.fillStyle = member.colour;
      pen.fill();
      pen.globalAlpha = this.#isDim(member) ? 0.2 : 0.85;
      const end = least + (fair - least) * Math.min(member.load, 2);
      if (end > least + 0.5) {
        segment(pen, from, to, least, end);
        pen.fill();
      }
      if (member.grade >= 2) hatch(pen, from, to, least, most, ink.bad);
      if (member.name === (this.#hovered ?? this.#selected)) {
        pen.globalAlpha = 1;
        segment(pen, from, to, least, most);
        pen.strokeStyle = ink.text;
        pen.lineWidth = 1.5;
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.setLineDash([3, 4]);
    pen.strokeStyle = ink.faint;
    pen.lineWidth = 1;
    pen.arc(0, 0, fair, 0, TURN);
    pen.stroke();
    pen.setLineDash([]);
  }

  #labels(pen, members, ink) {
    const { most, least } = this.#radii();
    const radius = least + (most - least) * 0.75;
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    pen.lineJoin = 'round';
    // Who is in trouble is named first; a name that would lie on another one is left out.
    const taken = [];
    for (const member of [...members].sort((a, b) => b.grade - a.grade)) {
      const isNamed = members.length <= 24 && member.share > 0.02;
      if (!isNamed && !(member.grade >= 2 && member.share > 0.012)) continue;
      const [x, y] = point((member.from + member.to) / 2, radius);
      const name = member.name.length > 14 ? `${member.name.slice(0, 13)}…` : member.name;
      const text = `${member.grade > 0 ? member.sign : ''}${isNamed ? ` ${name}` : ''}`.trim();
      pen.font = `${member.grade >= 2 ? '600 ' : ''}12px system-ui, sans-serif`;
      const half = pen.measureText(text).width / 2;
      if (taken.some((box) => Math.abs(box.y - y) < 13 && Math.abs(box.x - x) < box.half + half + 2)) continue;
      taken.push({ x, y, half });
      pen.lineWidth = 3;
      pen.strokeStyle = ink.back;
      pen.globalAlpha = this.#isDim(member) ? 0.35 : 1;
      pen.strokeText(text, x, y);
      pen.fillStyle = member.grade >= 2 ? ink.bad : ink.text;
      pen.fillText(text, x, y);
    }
    pen.globalAlpha = 1;
  }

  /** The key's place outside, and lines to its first owners. */
  #walk(pen, members, ink) {
    const { outer, band, most, least } = this.#radii();
    const { place, owners } = this.#key;
    const [tipX, tipY] = point(place, outer + 1);
    const byName = new Map(members.map((member) => [member.name, member]));
    // The ways run in the lane between circle and sectors, beside each other, and turn in at their ends.
    const lane = (outer - band - most) / 4;
    owners.slice(0, 3).forEach(({ name, isChosen }, at) => {
      const member = byName.get(name);
      if (!member || member.share === 0) return;
      const goal = (member.from + member.to) / 2;
      const way = ((goal - place + 1.5) % 1) - 0.5;
      const radius = outer - band - lane * (at + 1);
      const end = point(goal, least + (most - least) * 0.16);
      pen.beginPath();
      pen.moveTo(...point(place, outer - band));
      pen.arc(0, 0, radius, TOP + place * TURN, TOP + (place + way) * TURN, way < 0);
      pen.lineTo(...end);
      pen.setLineDash(isChosen ? [] : [4, 4]);
      pen.lineWidth = isChosen ? 2.5 : 1.25;
      pen.strokeStyle = ink.text;
      pen.globalAlpha = isChosen ? 1 : 0.6;
      pen.stroke();
      pen.setLineDash([]);
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.arc(...end, 9, 0, TURN);
      pen.fillStyle = isChosen ? ink.text : ink.back;
      pen.fill();
      pen.lineWidth = 1.25;
      pen.stroke();
      pen.fillStyle = isChosen ? ink.back : ink.text;
      pen.textAlign = 'center';
      pen.textBaseline = 'middle';
      pen.font = '600 11px system-ui, sans-serif';
      pen.fillText(String(at + 1), ...end);
    });
    pen.save();
    pen.translate(tipX, tipY);
    pen.rotate(place * TURN);
    pen.beginPath();
    pen.moveTo(0, 0);
    pen.lineTo(-7, -13);
    pen.lineTo(7, -13);
    pen.closePath();
    pen.fillStyle = ink.text;
    pen.fill();
    pen.fillRect(-1, 0, 2, band + 2);
    pen.restore();
  }

  /** The words in the middle. */
  #tell() {
    if (!this.#pool) return;
    const name = this.#hovered ?? this.#selected;
    const backend = name === null ? null : this.#pool.backends.find((one) => one.name === name);
    const lines = backend
      ? [backend.name, `${standing(backend.standing).sign} ${backend.standing}`, `${percent(backend.share)} of the keys`, `${number(backend.requests_per_second)} req/s`]
      : [this.#pool.name, `${this.#pool.serving} of ${this.#pool.backends.length} serve`, `${number(this.#pool.requests_per_second)} req/s`];
    const text = lines.join('\n');
    if (this.#middle.dataset.text === text) return;
    this.#middle.dataset.text = text;
    this.#middle.replaceChildren(...lines.map((line) => Object.assign(document.createElement('span'), { textContent: line })));
    const out = this.#pool.backends.filter((one) => standing(one.standing).grade > 0).map((one) => `${one.name} ${one.standing}`);
    const what = `Ring of pool ${this.#pool.name}: ${this.#pool.serving} of ${this.#pool.backends.length} backends serve`;
    this.#canvas.setAttribute('aria-label', out.length ? `${what}; ${out.slice(0, 8).join(', ')}` : what);
  }

  /** Whose part of the picture a pointer is at. */
  #at(event) {
    if (!this.#ring || !this.#pool) return null;
    const box = this.#canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    const radius = Math.hypot(x, y);
    const { outer, band, most, least } = this.#radii();
    let place = (Math.atan2(y, x) - TOP) / TURN;
    place -= Math.floor(place);
    if (radius >= outer - band && radius <= outer + 4) {
      const arc = this.#ring.arcs.findLast(([from]) => from <= place);
      return arc ? this.#ring.backends[arc[1]] : null;
    }
    if (radius >= least && radius <= most) {
      return this.#members().find((member) => member.from <= place && place < member.to)?.name ?? null;
    }
    return null;
  }
}

function point(place, radius) {
  const angle = TOP + place * TURN;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/** The outline of a part of a ring. */
function segment(pen, from, to, inner, outer) {
  const [begin, end] = [TOP + from * TURN, TOP + Math.min(to, from + 1) * TURN];
  pen.beginPath();
  pen.arc(0, 0, outer, begin, end);
  pen.arc(0, 0, inner, end, begin, true);
  pen.closePath();
}

function hatch(pen, from, to, inner, outer, ink) {
  pen.save();
  segment(pen, from, to, inner, outer);
  pen.clip();
  pen.globalAlpha = 0.75;
  pen.strokeStyle = ink;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = -2 * outer; at < 2 * outer; at += 7) {
    pen.moveTo(at, -outer);
    pen.lineTo(at + 2 * outer, outer);
  }
  pen.stroke();
  pen.restore();
}

/**
 * The walk, stretched: from the key's place on, each virtual node up to the first of the fifth backend. `walk` has pairs of distance and
 * backend's number.
 */
export function drawStrip(canvas, walk, ring, owners) {
  const width = canvas.clientWidth;
  const height = 54;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const [text, back] = [style.getPropertyValue('--text'), style.getPropertyValue('--card')];
  if (!walk?.length) return;
  const end = walk.at(-1)[0] * 1.02;
  const place = (distance) => 8 + (distance / end) * (width - 16);
  const met = new Set();
  let from = 0;
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  const marks = [];
  for (const [distance, owner] of walk) {
    const name = ring.backends[owner];
    pen.fillStyle = colour(owner, ring.backends.length, isDark());
    const isSkipped = owners.find((one) => one.name === name)?.isSkipped;
    pen.globalAlpha = isSkipped ? 0.4 : 1;
    pen.fillRect(place(from), isSkipped ? 27 : 20, Math.max(place(distance) - place(from) - 0.5, 0.5), isSkipped ? 5 : 12);
    if (!met.has(owner)) {
      met.add(owner);
      // As in the list: an owner that an operator drained is first there, and has no place on this ring.
      const at = owners.findIndex((one) => one.name === name);
      marks.push([place(distance), at + 1, owners[at]?.isChosen]);
    }
    from = distance;
  }
  pen.globalAlpha = 1;
  pen.fillStyle = text;
  pen.beginPath();
  pen.moveTo(8, 19);
  pen.lineTo(3, 9);
  pen.lineTo(13, 9);
  pen.fill();
  pen.fillRect(7.25, 12, 1.5, 22);
  // Numbers that would lie on each other give way to the right.
  let last = -20;
  for (const [x, order, isChosen] of marks) {
    const at = Math.min(Math.max(x, last + 19), width - 9);
    last = at;
    pen.beginPath();
    pen.arc(at, 44, 8, 0, TURN);
    pen.fillStyle = isChosen ? text : back;
    pen.fill();
    pen.strokeStyle = text;
    pen.lineWidth = 1;
    pen.stroke();
    pen.fillStyle = isChosen ? back : text;
    pen.font = '600 10px system-ui, sans-serif';
    pen.fillText(String(order), at, 44.5);
    pen.fillStyle = text;
    pen.fillRect(x - 0.5, 20, 1, 15);
  }
}
