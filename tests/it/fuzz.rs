//! The fuzz targets, for a moment: seeds from the recorded cases, changed by chance. Hours of it: `fuzz/README.md`.

#[path = "../../fuzz/targets.rs"]
mod targets;

use super::bad_input::decode;

/// Runs of each target.
const RUNS: usize = 20_000;

fn recorded(text: &str, field: &str) -> Vec<String> {
    let one = |line: &str| {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        case[field].as_str().unwrap().to_owned()
    };
    text.lines().map(one).collect()
}

/// Changes a seed in one to four places.
fn changed(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=data.len());
        match rng.u8(..6) {
            0 if at < data.len() => data[at] = rng.u8(..),
            1 if at < data.len() => data[at] ^= 1 << rng.u8(..8),
            2 => data.insert(at, *rng.choice(b"\r\n\t :,;=\0\"0a\x80\xff").unwrap()),
            3 if at < data.len() => drop(data.drain(at..(at + rng.usize(1..9)).min(data.len()))),
            4 => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                let to = (from + rng.usize(..40)).min(other.len());
                drop(data.splice(at..at, other[from..to].iter().copied()));
            }
            _ => data.truncate(at.max(1)),
        }
    }
    data.truncate(8192);
    data
}

fn run(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    // The same each time: a failure here can be had again.
    let mut rng = fastrand::Rng::with_seed(7);
    seeds.iter().for_each(|seed| target(seed));
    for _ in 0..RUNS {
        target(&changed(&mut rng, seeds));
    }
}

#[test]
fn requests() {
    let mut seeds: Vec<Vec<u8>> =
        recorded(include_str!("../data/bad_input.jsonl"), "raw").iter().map(|raw| decode(raw)).collect();
    seeds.retain(|seed| seed.len() < 4096);
    run(targets::request, &seeds);
    run(targets::key, &seeds);
    run(targets::body, &seeds);
}

#[test]
fn answers() {
    let text = recorded(include_str!("../data/bad_answers.jsonl"), "answer");
    let bytes = |text: &String| text.chars().map(|c| c as u32 as u8).collect();
    let mut seeds: Vec<Vec<u8>> = text.iter().map(bytes).collect();
    seeds.retain(|seed| seed.len() < 4096);
    run(targets::answer, &seeds);
    run(targets::body, &seeds);
}

#[test]
fn frames() {
    use super::support::http2::{
        CONTINUATION, DATA, GOOD, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, section,
    };
    let good = section(&GOOD);
    let post =
        section(&[&[(":method", "POST")], &GOOD[1..], &[("content-length", "5"), ("cookie", "a")]].concat());
    let indexed = [0x82, 0x86, 0x84, 0x41, 1, b'a', 0x40, 1, b'x', 1, b'y', 0xbe];
    let seeds = [
        frame(HEADERS, 5, 1, &good),
        frame(HEADERS, 5, 1, &indexed),
        [frame(HEADERS, 4, 1, &post), frame(DATA, 1, 1, b"hello")].concat(),
        [frame(HEADERS, 1, 1, &good[..9]), frame(CONTINUATION, 4, 1, &good[9..])].concat(),
        [
            frame(HEADERS, 4, 1, &good),
            frame(DATA, 8, 1, b"\x02hi\0\0"),
            frame(HEADERS, 5, 1, &section(&[("x-end", "1")])),
        ]
        .concat(),
        [frame(HEADERS, 4, 1, &good), frame(RST_STREAM, 0, 1, &[0; 4]), frame(HEADERS, 5, 3, &good)].concat(),
        [
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]),
            frame(HEADERS, 0x2d, 1, &[&[0, 0, 0, 0, 0, 9], &good[..]].concat()),
        ]
        .concat(),
    ];
    run(targets::http2, &seeds);
}

#[test]
fn configurations() {
    let seeds =
        [include_str!("../../config/ringway.toml"), include_str!("../data/config/good/everything.toml")]
            .map(|text| text.as_bytes().to_vec());
    let mut rng = fastrand::Rng::with_seed(7);
    seeds.iter().for_each(|seed| targets::configuration(seed));
    for _ in 0..60 {
        targets::configuration(&changed(&mut rng, &seeds));
    }
}

#[test]
fn balancers_and_proxies() {
    let seeds = [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02",
        b"for=192.0.2.1;proto=https, for=\"[2001:db8::1]:80\";host=\"a\\\"b\"",
        b"192.0.2.1, 10.0.0.1, [2001:db8::1]:80",
    ]
    .map(<[u8]>::to_vec);
    run(targets::preface, &seeds);
    run(targets::client, &seeds);
}
