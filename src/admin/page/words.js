// How things are said: numbers, times, standings, colours. Owns no state.

/** A rate or a count, short: 0, 0.4, 12, 1 234, 56.7 k. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 0.05) return '<0.1';
  if (size < 10) return trim(value.toFixed(1));
  if (size < 1000) return value.toFixed(0);
  if (size < 10_000) return `${Math.floor(value / 1000)} ${String(Math.round(value) % 1000).padStart(3, '0')}`;
  if (size < 1_000_000) return `${(value / 1000).toFixed(size < 100_000 ? 1 : 0)} k`;
  return `${(value / 1e6).toFixed(1)} M`;
}

const trim = (text) => text.replace(/\.0$/, '');

/** Seconds as people say them: 0.42 ms, 12 ms, 1.3 s. */
export function seconds(value) {
  if (value === null || value === undefined) return '–';
  const ms = value * 1000;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${trim(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return `${trim((ms / 1000).toFixed(ms < 10_000 ? 1 : 0))} s`;
}

/** A share from 0 to 1. */
export function percent(share) {
  if (share === null || share === undefined) return '–';
  const value = share * 100;
  if (value === 0) return '0 %';
  if (value < 0.01) return '<0.01 %';
  return `${value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : trim(value.toFixed(1))} %`;
}

/** How long ago something was, at the time `now` (milliseconds). */
export function ago(time, now) {
  const past = Math.max(0, (now - Date.parse(time)) / 1000);
  if (past < 60) return `${Math.floor(past)} s`;
  if (past < 3600) return `${Math.floor(past / 60)} min`;
  if (past < 86_400) return `${Math.floor(past / 3600)} h`;
  return `${Math.floor(past / 86_400)} d`;
}

/** The time of day. */
export const clock = (time) => new Date(time).toLocaleTimeString(undefined, { hour12: false });

/** Standings: a sign that is not a colour, how bad it is (0: well), and what it means. */
export const STANDINGS = {
  serving: { sign: '●', grade: 0, means: 'takes requests' },
  drained: { sign: '‖', grade: 1, means: 'has the weight 0: no keys' },
  trial: { sign: '◐', grade: 2, means: 'was ejected, and takes a few requests, which decide' },
  unproven: { sign: '○', grade: 3, means: 'has not been probed yet' },
  unresolved: { sign: '?', grade: 4, means: 'its host name has no address' },
  ejected: { sign: '▲', grade: 5, means: 'requests failed at it: out for a time' },
  down: { sign: '✕', grade: 6, means: 'its health checks fail' },
};

export const standing = (word) => STANDINGS[word] ?? { sign: '?', grade: 4, means: '' };

// Told apart by most eyes, the first eight of them; beyond, hues a golden angle apart.
const FEW = [
  [0.62, 0.13, 230], [0.70, 0.15, 60], [0.62, 0.13, 160], [0.58, 0.17, 25],
  [0.62, 0.15, 300], [0.76, 0.14, 95], [0.55, 0.14, 265], [0.68, 0.14, 350],
];

/** The colour of the backend with this number of so many. */
export function colour(index, count, isDark) {
  const [light, chroma, hue] = count <= FEW.length
    ? FEW[index]
    : [0.58 + 0.07 * (index % 3), 0.10 + 0.03 * (index % 2), (index * 137.508) % 360];
  return `oklch(${light + (isDark ? 0.06 : 0)} ${chroma} ${hue})`;
}

const dark = matchMedia('(prefers-color-scheme: dark)');
export const isDark = () => dark.matches;
export const onThemeChange = (then) => dark.addEventListener('change', then);

export const element = (id) => document.getElementById(id);

/** A new element with a class and a text. */
export function make(name, className = '', text = '') {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Sets a text where it differs: a table of 500 rows is looked through each second. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
