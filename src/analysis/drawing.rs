//! Both rings of a pool as a drawing: before outside, after inside, what moves between them.
//!
//! Owns an SVG that needs nothing from elsewhere. What is smaller than a pixel is merged, so it stays small whatever the ring's size. Never
//! decides: the figures stand in [`super::compare`].

use std::fmt::Write;

use super::chart::{Chart, Charted};
use crate::{
    limits::{DRAWN_BACKENDS, DRAWN_POOLS},
    ring::{MemberIndex, Ring},
};

/// Parts into which the circle is cut: the outer one is 1 900 pixels around.
const PARTS: usize = 1536;

const OUTER: f64 = 280.0;
const MIDDLE: f64 = 245.0;
const INNER: f64 = 210.0;
const WIDTH: f64 = 30.0;
const CENTRE: f64 = 320.0;
/// A drawing's height, with its heading.
const HEIGHT: f64 = 680.0;
const FITS: &str = "a string takes all that is written";

/// Draws the pools that both have, up to a bound; those that change come first.
pub fn draw(old: &Chart, new: &Chart) -> String {
    let both = |before| -> Option<(&Charted, &Charted, f64)> {
        let before: &Charted = before;
        let after = &new.pools[new.position(&before.name)?];
        Some((before, after, before.ring.share_moved(&after.ring)))
    };
    let mut pools: Vec<_> = old.pools.iter().filter_map(both).collect();
    pools.sort_by(|a, b| b.2.total_cmp(&a.2));
    let drawn = &pools[..pools.len().min(DRAWN_POOLS)];
    let height = HEIGHT * drawn.len().max(1) as f64;
    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 {height}\" width=\"960\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title desc\" font-family=\"system-ui, sans-serif\" font-size=\"14\">"
    )
    .expect(FITS);
    out.push_str("<title id=\"title\">What moves on the ring</title>\n<desc id=\"desc\">");
    for (before, _, moved) in drawn {
        write!(out, "Pool {}: {:.2} % of the keyspace moves. ", escaped(&before.name), moved * 100.0)
            .expect(FITS);
    }
    out.push_str(
        "The outer circle is before the change, the inner one after it; between them, what moves.</desc>\n",
    );
    out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
    for (at, (before, after, moved)) in drawn.iter().enumerate() {
        writeln!(out, "<g transform=\"translate(0 {})\">", at as f64 * HEIGHT).expect(FITS);
        pool(&mut out, before, after, *moved);
        out.push_str("</g>\n");
    }
    if pools.len() > drawn.len() {
        writeln!(
            out,
            "<text x=\"20\" y=\"{}\">and {} more pools</text>",
            height - 8.0,
            pools.len() - drawn.len()
        )
        .expect(FITS);
    }
    out.push_str("</svg>\n");
    out
}

fn pool(out: &mut String, before: &Charted, after: &Charted, moved: f64) {
    let mut names: Vec<&str> = [&before.ring, &after.ring]
        .into_iter()
        .flat_map(|ring| ring.members().iter().map(|member| &*member.name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let numbers = [&before.ring, &after.ring].map(|ring| {
        let number = |name: &str| names.binary_search(&name).expect("all names of both sides are listed");
        ring.members().iter().map(|member| number(&member.name)).collect::<Vec<_>>()
    });
    let parts = parts(before, after);
    for (side, radius) in [OUTER, INNER].into_iter().enumerate() {
        let owners: Vec<_> =
            parts.iter().map(|part| part.owners[side].map(|owner| numbers[side][owner.as_usize()])).collect();
        for (number, runs) in runs(&owners).into_iter().enumerate() {
            if !runs.is_empty() {
                stroke(out, &runs, radius, &colour(number));
            }
        }
    }
    let shades: Vec<_> = parts
        .iter()
        .map(|part| Some((part.moved * 4.0).ceil() as usize).filter(|shade| *shade > 0))
        .collect();
    for (shade, runs) in runs(&shades).into_iter().enumerate().filter(|(_, runs)| !runs.is_empty()) {
        stroke(out, &runs, MIDDLE, ["#fff", "#f2c1bb", "#e58a80", "#d9534a", "#b3261e"][shade.min(4)]);
    }
    let text = |out: &mut String, x: f64, y: f64, size: u32, text: &str| {
        writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"middle\">{}</text>",
            escaped(text)
        )
        .expect(FITS);
    };
    text(out, CENTRE, CENTRE - 8.0, 22, &before.name);
    text(out, CENTRE, CENTRE + 18.0, 16, &format!("{:.2} % moves", moved * 100.0));
    text(
        out,
        CENTRE,
        CENTRE + 2.0 * CENTRE - 300.0,
        13,
        "outside: before; inside: after; red between them: what moves",
    );
    legend(out, before, after, &names);
}

/// A part of the circle.
#[derive(Clone, Copy, Default)]
struct Part {
    /// Who owns the most of it, before and after.
    owners: [Option<MemberIndex>; 2],
    /// How much of it moves, from 0 to 1.
    moved: f64,
}

/// Cuts both rings into parts of one size.
fn parts(before: &Charted, after: &Charted) -> Vec<Part> {
    const SIZE: u128 = (1_u128 << 64) / PARTS as u128 + 1;
    let mut parts = vec![Part::default(); PARTS];
    let mut most = |ring: &Ring, other: &Ring, side: usize| {
        let mut owned = vec![0_u128; ring.members().len()];
        let mut here = 0;
        let mut settle = |owned: &mut Vec<u128>, part: usize| {
            let greatest = owned.iter().enumerate().max_by_key(|(at, places)| (**places, usize::MAX - at));
            if let Some((at, _)) = greatest.filter(|(_, places)| **places > 0) {
                parts[part].owners[side] = Some(MemberIndex(at as u32));
            }
            owned.iter_mut().for_each(|places| *places = 0);
        };
        ring.stretches(other, |stretch| {
            pieces(stretch.first.0, stretch.places(), SIZE, |part, places| {
                if part != here {
                    settle(&mut owned, here);
                    here = part;
                }
                if let Some(owner) = stretch.before {
                    owned[owner.as_usize()] += places;
                }
            });
        });
        settle(&mut owned, here);
    };
    most(&before.ring, &after.ring, 0);
    most(&after.ring, &before.ring, 1);
    before.ring.stretches_moved(&after.ring, |stretch| {
        pieces(stretch.first.0, stretch.places(), SIZE, |part, places| {
            parts[part].moved += places as f64 / SIZE as f64;
        });
    });
    parts
}

/// Cuts a stretch where parts meet.
fn pieces(first: u64, places: u128, size: u128, mut see: impl FnMut(usize, u128)) {
    let (mut at, end) = (u128::from(first), u128::from(first) + places);
    while at < end {
        let part = at / size;
        let stop = end.min((part + 1) * size);
        see(part as usize, stop - at);
        at = stop;
    }
}

/// By value, where neighbouring parts have it: the first and the one after the last.
fn runs(values: &[Option<usize>]) -> Vec<Vec<(usize, usize)>> {
    let mut runs: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut start = 0;
    for equal in values.chunk_by(|a, b| a == b) {
        let end = start + equal.len();
        if let Some(value) = equal[0] {
            if runs.len() <= value {
                runs.resize(value + 1, Vec::new());
            }
            runs[value].push((start, end));
        }
        start = end;
    }
    runs
}

/// Arcs of one colour. A whole circle is two halves: an arc to where it began is none.
fn stroke(out: &mut String, runs: &[(usize, usize)], radius: f64, colour: &str) {
    out.push_str("<path d=\"");
    let point = |out: &mut String, part: usize| {
        let angle = part as f64 / PARTS as f64 * std::f64::consts::TAU;
        write!(out, "{:.1} {:.1}", CENTRE + radius * angle.sin(), CENTRE - radius * angle.cos()).expect(FITS);
    };
    let halves = |&(start, end): &(usize, usize)| {
        let middle = start + (end - start) / 2;
        if end - start > PARTS / 2 { vec![(start, middle), (middle, end)] } else { vec![(start, end)] }
    };
    for (start, end) in runs.iter().flat_map(halves) {
        out.push('M');
        point(out, start);
        write!(out, "A{radius} {radius} 0 0 1 ").expect(FITS);
        point(out, end);
    }
    writeln!(out, "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{WIDTH}\"/>").expect(FITS);
}

/// Colours that lie far apart for neighbouring numbers: steps of the golden angle, in three shades.
fn colour(number: usize) -> String {
    let hue = (number as f64 * 137.508) % 360.0;
    format!("hsl({hue:.0} {}% {}%)", [65, 50, 75][number % 3], [48, 62, 36][number / 3 % 3])
}

fn legend(out: &mut String, before: &Charted, after: &Charted, names: &[&str]) {
    let share = |pool: &Charted, name: &str| pool.ring.index_of(name).map(|at| pool.ring.share(at) * 100.0);
    let told = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.2} %"));
    let mut rows: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(number, name)| (number, *name, share(before, name), share(after, name)))
        .collect();
    // Those that change most, if not all can be listed.
    if rows.len() > DRAWN_BACKENDS {
        let change = |row: &(usize, &str, Option<f64>, Option<f64>)| {
            (row.2.unwrap_or(0.0) - row.3.unwrap_or(0.0)).abs()
        };
        rows.sort_by(|a, b| change(b).total_cmp(&change(a)));
        rows.truncate(DRAWN_BACKENDS);
    }
    let mut y = 50.0;
    writeln!(out, "<text x=\"650\" y=\"{y}\" font-weight=\"bold\">backend: share before, after</text>")
        .expect(FITS);
    for (number, name, before, after) in &rows {
        y += 22.0;
        let shown: String = name.chars().take(18).collect();
        writeln!(
            out,
            "<rect x=\"650\" y=\"{}\" width=\"14\" height=\"14\" fill=\"{}\"/><text x=\"672\" y=\"{y}\">{}: {}, {}</text>",
            y - 12.0,
            colour(*number),
            escaped(&shown),
            told(*before),
            told(*after)
        )
        .expect(FITS);
    }
    if names.len() > rows.len() {
        writeln!(out, "<text x=\"672\" y=\"{}\">and {} more</text>", y + 22.0, names.len() - rows.len())
            .expect(FITS);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proxy::key::{KeyPolicy, OnMissingKey},
        ring::Weight,
    };

    fn chart(backends: usize, replicas: u32) -> Chart {
        let names = (0..backends).map(|at| format!("b{at}"));
        let ring = Ring::build(names.map(|name| (name.into(), Weight::ONE)), replicas).unwrap();
        let key = KeyPolicy { sources: Vec::new(), on_missing: OnMissingKey::Spread };
        Chart::new(
            Vec::new(),
            vec![Charted::new("p<&".into(), ring, vec![String::new(); backends], key, 0.0)],
        )
    }

    #[test]
    fn a_drawing_stays_small_and_is_told_in_words() {
        for (before, after, replicas) in
            [(200, 201, 512), (3, 4, 16), (1, 1, 1), (1, 0, 8), (0, 0, 8), (500, 1, 64)]
        {
            let drawing = draw(&chart(before, replicas), &chart(after, replicas));
            assert!(drawing.len() < 400_000, "{}", drawing.len());
            assert!(drawing.contains("<title id=\"title\">") && drawing.contains("Pool p&lt;&amp;: "));
            assert_eq!(drawing.matches("<g ").count(), drawing.matches("</g>").count());
            assert!(!drawing.contains("NaN"), "{before} {after}");
        }
    }

    #[test]
    fn parts_add_up_to_what_moves() {
        let (before, after) = (chart(5, 64), chart(6, 64));
        let (before, after) = (&before.pools[0], &after.pools[0]);
        let sum: f64 = parts(before, after).iter().map(|part| part.moved).sum();
        assert!((sum / PARTS as f64 - before.ring.share_moved(&after.ring)).abs() < 1e-6);
    }
}
