//! The picture of a replay: load per backend over time, and what the dimensions of a grid do, as SVG that a person can read and change.
//!
//! Owns the drawing: axes, lines, legend, words for who can't see it. It takes outcomes as they are, and computes nothing about load.

use std::fmt::Write;

use super::{Outcome, Settings};

/// Lines in one picture. With more, nobody finds his own.
const LINES: usize = 12;

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito); lines differ by their dashes, too.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9"];
const DASHES: [&str; 3] = ["none", "7 4", "2 3"];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 400.0;
/// Left, top, right, bottom of the field in which lines are drawn.
const FIELD: [f64; 4] = [70.0, 46.0, 680.0, 340.0];

const FITS: &str = "a string takes all that is written";

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it stands for.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A picture with lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// What it shows.
    pub title: String,
    /// The same in a sentence or two with its main figures, for who can't see it.
    pub description: String,
    /// What goes from left to right.
    pub across: String,
    /// What goes up.
    pub up: String,
    /// Where words stand below the field. Empty: round numbers.
    pub ticks: Vec<(f64, String)>,
    /// The lines.
    pub lines: Vec<Line>,
    /// Upright lines with words: what happened there.
    pub marks: Vec<(f64, String)>,
    /// The least that the scale upwards begins with.
    pub from: f64,
}

/// Load per backend over time. With many backends: of the one with most, the one in the middle and the one with least, in each window.
pub fn draw_load(outcome: &Outcome) -> Drawing {
    let rate = |requests: u32| f64::from(requests) / outcome.window_seconds;
    let middle = outcome.window_seconds / 2.0;
    // The last window ends with the trace, and would look like a fall.
    let whole = match outcome.windows.len() {
        0..=1 => &outcome.windows[..],
        more => &outcome.windows[..more - 1],
    };
    let line = |name: &str, of: &dyn Fn(&[u32]) -> u32| Line {
        name: name.to_owned(),
        points: whole.iter().map(|span| (span.from + middle, rate(of(&span.requests)))).collect(),
    };
    let lines = if outcome.backends.len() <= LINES {
        let each = outcome.backends.iter().enumerate();
        each.map(|(at, backend)| line(&backend.backend, &|requests| requests[at])).collect()
    } else {
        let ranked = |requests: &[u32], share: f64| {
            let mut sorted = requests.to_vec();
            sorted.sort_unstable();
            sorted[((sorted.len() - 1) as f64 * share) as usize]
        };
        [("most loaded", 1.0), ("in the middle", 0.5), ("least loaded", 0.0)]
            .map(|(name, share)| line(name, &|requests| ranked(requests, share)))
            .into()
    };
    let busiest = outcome.backends.iter().max_by_key(|backend| backend.requests);
    let description = format!(
        "Requests in a second at each of {} backends, over {:.0} seconds. The greatest load to the mean is {:.3}; most had {}. {} requests in all, {:.1} % spilled.",
        outcome.backends.len(),
        outcome.seconds,
        outcome.greatest_to_mean,
        busiest.map_or("nobody", |backend| &backend.backend),
        outcome.requests,
        100.0 * outcome.spilled,
    );
    Drawing {
        title: "Load per backend".to_owned(),
        description,
        across: "seconds since the trace began".to_owned(),
        up: "requests/s".to_owned(),
        ticks: vec![],
        lines,
        marks: outcome.changes.iter().map(|change| (change.at, short(&change.event))).collect(),
        from: 0.0,
    }
}

/// An event without its time.
fn short(event: &str) -> String {
    event.split_once(':').map_or(event, |(_, rest)| rest).to_owned()
}

/// Something about the cells of a grid: its first dimension with the most values goes from left to right, the others make the lines.
/// `None`: there is nothing to compare, or no cell has it.
pub fn draw_grid(
    outcomes: &[Outcome],
    title: &str,
    of: impl Fn(&Outcome) -> Option<f64>,
    from: f64,
) -> Option<Drawing> {
    let texts: Vec<[String; 7]> = outcomes.iter().map(|outcome| outcome.settings.texts()).collect();
    let distinct = |at: usize| {
        let mut values: Vec<&str> = Vec::new();
        for text in &texts {
            if !values.contains(&&*text[at]) {
                values.push(&text[at]);
            }
        }
        values
    };
    let across = (0..7).rev().max_by_key(|at| distinct(*at).len())?;
    let values = distinct(across);
    if values.len() < 2 {
        return None;
    }
    let others: Vec<usize> = (0..7).filter(|at| *at != across && distinct(*at).len() > 1).collect();
    let mut lines: Vec<Line> = Vec::new();
    for (outcome, text) in outcomes.iter().zip(&texts) {
        let Some(value) = of(outcome) else { continue };
        let words = others.iter().map(|at| format!("{} {}", Settings::NAMES[*at], text[*at]));
        let name = words.collect::<Vec<_>>().join(", ");
        let x = values.iter().position(|other| *other == text[across])? as f64;
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push((x, value)),
            None => lines.push(Line { name, points: vec![(x, value)] }),
        }
    }
    if lines.is_empty() {
        return None;
    }
    let told = lines.iter().take(LINES).map(|line| {
        let points = line.points.iter().map(|(x, y)| format!("{y:.3} at {}", values[*x as usize]));
        let name = if line.name.is_empty() { String::new() } else { format!("{}: ", line.name) };
        format!("{name}{}.", points.collect::<Vec<_>>().join(", "))
    });
    let description = told.collect::<Vec<_>>().join(" ");
    let left_out = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    let more = if left_out > 0 { format!(" ({left_out} lines left out)") } else { String::new() };
    let (first, rest) = title.split_at(title.len().min(1));
    Some(Drawing {
        title: format!("{}{rest}, by {}{more}", first.to_uppercase(), Settings::NAMES[across]),
        description,
        across: Settings::NAMES[across].to_owned(),
        up: title.to_owned(),
        ticks: (0..).map(f64::from).zip(values.iter().map(|value| (*value).to_owned())).collect(),
        lines,
        marks: vec![],
        from,
    })
}

/// From values to the field's coordinates.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn of(drawing: &Drawing) -> Scale {
        let points = || drawing.lines.iter().flat_map(|line| &line.points);
        let end = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(f64::NEG_INFINITY, f64::max);
        let begin = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let (right, top) = (end(|point| point.0), end(|point| point.1));
        let margin = if drawing.ticks.is_empty() { 0.0 } else { 0.3 };
        let x =
            if begin.is_finite() { (begin - margin, right.max(begin + 1e-9) + margin) } else { (0.0, 1.0) };
        let y = if top > drawing.from {
            (drawing.from, drawing.from + (top - drawing.from) * 1.06)
        } else {
            (drawing.from, drawing.from + 1.0)
        };
        Scale { x, y }
    }

    fn across(&self, x: f64) -> f64 {
        FIELD[0] + (x - self.x.0) / (self.x.1 - self.x.0) * (FIELD[2] - FIELD[0])
    }

    fn up(&self, y: f64) -> f64 {
        FIELD[3] - (y - self.y.0) / (self.y.1 - self.y.0) * (FIELD[3] - FIELD[1])
    }
}

/// Round numbers in a range: steps of 1, 2 or 5 times a power of ten.
fn round_steps((from, to): (f64, f64)) -> Vec<f64> {
    let rough = (to - from) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (from / step - 1e-9).ceil() as i64;
    (first..)
        .map(|number| number as f64 * step)
        .take_while(|value| *value <= to + step * 1e-9)
        .take(12)
        .collect()
}

/// A number of an axis, without digits that say nothing.
fn figure(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Drawing {
    /// The SVG.
    pub fn svg(&self) -> String {
        let mut out = String::new();
        let (title, description) = (escaped(&self.title), escaped(&self.description));
        write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"title description\">\n\
             <title id=\"title\">{title}</title>\n<desc id=\"description\">{description}</desc>\n{STYLE}\
             <text x=\"{}\" y=\"26\" class=\"title\">{title}</text>\n",
            FIELD[0]
        )
        .expect(FITS);
        let scale = Scale::of(self);
        self.axes(&mut out, &scale);
        for (x, words) in &self.marks {
            let x = scale.across(*x);
            writeln!(
                out,
                "<path d=\"M{x:.1} {}V{}\" class=\"mark\"/><text x=\"{:.1}\" y=\"{}\" class=\"small\">{}</text>",
                FIELD[1],
                FIELD[3],
                x + 3.0,
                FIELD[1] + 10.0,
                escaped(words)
            )
            .expect(FITS);
        }
        for (number, line) in self.lines.iter().enumerate() {
            self.line(&mut out, &scale, number, line);
        }
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String, scale: &Scale) {
        let [left, top, right, bottom] = FIELD;
        for value in round_steps(scale.y) {
            let y = scale.up(value);
            writeln!(
                out,
                "<path d=\"M{left} {y:.1}H{right}\" class=\"grid\"/><text x=\"{}\" y=\"{:.1}\" class=\"left\">{}</text>",
                left - 8.0,
                y + 4.0,
                figure(value)
            )
            .expect(FITS);
        }
        let ticks = match self.ticks.is_empty() {
            true => round_steps(scale.x).into_iter().map(|value| (value, figure(value))).collect(),
            false => self.ticks.clone(),
        };
        for (value, words) in &ticks {
            writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" class=\"below\">{}</text>",
                scale.across(*value),
                bottom + 18.0,
                escaped(words)
            )
            .expect(FITS);
        }
        writeln!(
            out,
            "<path d=\"M{left} {bottom}H{right}\" class=\"axis\"/>\n<text x=\"{}\" y=\"{}\" class=\"below\">{}</text>\n\
             <text transform=\"translate(18 {}) rotate(-90)\" class=\"below\">{}</text>",
            (left + right) / 2.0,
            bottom + 42.0,
            escaped(&self.across),
            (top + bottom) / 2.0,
            escaped(&self.up)
        )
        .expect(FITS);
    }

    fn line(&self, out: &mut String, scale: &Scale, number: usize, line: &Line) {
        let (colour, dash) = (COLOURS[number % COLOURS.len()], DASHES[number / COLOURS.len() % DASHES.len()]);
        let mut path = String::new();
        for (at, (x, y)) in line.points.iter().enumerate() {
            let word = if at == 0 { 'M' } else { 'L' };
            write!(path, "{word}{:.1} {:.1}", scale.across(*x), scale.up(*y)).expect(FITS);
        }
        writeln!(out, "<path d=\"{path}\" class=\"line\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/>")
            .expect(FITS);
        if !self.ticks.is_empty() {
            for (x, y) in &line.points {
                let (x, y) = (scale.across(*x), scale.up(*y));
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>").expect(FITS);
            }
        }
        if line.name.is_empty() {
            return;
        }
        let (x, y) = (FIELD[2] + 14.0, FIELD[1] + 8.0 + 22.0 * number as f64);
        writeln!(
            out,
            "<path d=\"M{x} {y}h24\" class=\"line\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"/><text x=\"{}\" y=\"{}\" class=\"small\">{}</text>",
            x + 30.0,
            y + 4.0,
            escaped(&line.name)
        )
        .expect(FITS);
    }
}

const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #57606a; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 12px; }
.left { text-anchor: end; }
.below { text-anchor: middle; }
.grid { stroke: #8c959f; stroke-width: 1; opacity: .3; }
.axis { stroke: #8c959f; stroke-width: 1.2; }
.mark { stroke: #8c959f; stroke-width: 1.2; stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) { text { fill: #9aa4af; } }
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_words_are_escaped() {
        assert_eq!(round_steps((0.0, 98.0)), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(round_steps((1.0, 1.3)).len(), 4);
        let line = Line { name: "a<b".to_owned(), points: vec![(0.0, 1.0), (1.0, 2.0)] };
        let drawing = Drawing {
            title: "A & B".to_owned(),
            description: "Rises.".to_owned(),
            across: "x".to_owned(),
            up: "y".to_owned(),
            ticks: vec![],
            lines: vec![line],
            marks: vec![(0.5, "down:a".to_owned())],
            from: 0.0,
        };
        let svg = drawing.svg();
        assert!(svg.contains("<title id=\"title\">A &amp; B</title>") && svg.contains("a&lt;b"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
