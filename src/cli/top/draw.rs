//! The view on a terminal: where its parts are, and what lies over them.
//!
//! Owns places and colours. Standing is told by a word, never by a colour alone. Reads the model and changes nothing.

mod over;
mod tables;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Paragraph, Sparkline, Wrap},
};

use super::{
    figures::{ago, count, rate, share},
    model::{Link, Model, Over, Past, Prompt},
    news::Tone,
};

/// Below this height, the parts that say least are left out.
const LOW: u16 = 20;

/// From this one on, there is room for more pools and more news.
const MIDDLE: u16 = 34;

/// How things look. Without colours, what matters is bold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    pub(super) has_colours: bool,
}

impl Palette {
    fn of(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn doubtful(self) -> Style {
        self.of(Color::Yellow)
    }

    fn quiet(self) -> Style {
        self.of(Color::DarkGray)
    }

    fn title(self) -> Style {
        self.of(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Worse => self.bad(),
            Tone::Better => self.good(),
            Tone::Plain => Style::new(),
        }
    }

    fn standing(self, word: &str) -> Style {
        match word {
            "serving" => self.good(),
            "trial" | "unproven" => self.doubtful(),
            "drained" => self.of(Color::Blue),
            _ => self.bad(),
        }
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette) {
    let area = frame.area();
    let pools = match model.live.pools.len() {
        0 | 1 => 0,
        several => several.min(if area.height < MIDDLE { 3 } else { 6 }) as u16 + 2,
    };
    let news = match (model.shows_news, area.height) {
        (false, _) => 0,
        (true, height) if height < LOW => 0,
        (true, height) if height < MIDDLE => 4,
        (true, _) => 9,
    };
    let charts = if area.height < LOW { 0 } else { 4 };
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(charts),
        Constraint::Length(pools),
        Constraint::Min(4),
        Constraint::Length(2),
        Constraint::Length(news),
        Constraint::Length(1),
    ]);
    let [head, charts, pools, backends, detail, news, foot] = parts.areas(area);
    draw_head(frame, head, model, palette);
    draw_charts(frame, charts, &model.past, palette);
    tables::draw_pools(frame, pools, model, palette);
    tables::draw_backends(frame, backends, model, palette);
    draw_detail(frame, detail, model, palette);
    draw_news(frame, news, model, palette);
    draw_foot(frame, foot, model, palette);
    over::draw(frame, area, model, palette);
}

fn section<'a>(title: impl Into<Line<'a>>, palette: Palette) -> Block<'a> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(palette.quiet())
        .title(title.into().style(palette.title()))
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let live = &model.live;
    let mut first = Line::from(vec![
        Span::styled("Ringway ", palette.title()),
        Span::raw(format!("{} at {}  ", live.version, model.admin)),
    ]);
    if let Link::Lost { why, again } = &model.link {
        first.push_span(Span::styled(format!("NO ANSWER, again in {again} s: {why}"), palette.bad()));
    } else {
        let (state, style) = match (live.draining, live.ready) {
            (true, _) => ("draining", palette.bad()),
            (false, true) => ("ready", palette.good()),
            (false, false) => ("not ready", palette.doubtful()),
        };
        first.push_span(format!("revision {}  {} UTC  ", live.revision, live.clock()));
        first.push_span(Span::styled(state, style));
    }
    let totals = &live.totals;
    let errors = if totals.errors_per_second > 0.0 { palette.bad() } else { Style::new() };
    let second = Line::from(vec![
        Span::raw(format!("req/s {}  ", rate(totals.requests_per_second))),
        Span::styled(format!("err/s {}  ", rate(totals.errors_per_second)), errors),
        Span::raw(format!("in flight {}  ", count(totals.in_flight))),
        Span::raw(format!("not home/s {}  ", rate(totals.off_owner_per_second))),
        Span::raw(format!("repeats/s {}  ", rate(totals.repeats_per_second))),
        Span::raw(format!("clients {}", count(totals.connections))),
    ]);
    frame.render_widget(Paragraph::new(vec![first, second]), area);
}

/// The last minutes, the newest second on the right.
fn draw_charts(frame: &mut Frame<'_>, area: Rect, past: &Past, palette: Palette) {
    if area.height == 0 {
        return;
    }
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(1).areas(area);
    let columns = [
        ("requests/s", &past.requests, palette.good()),
        ("errors/s", &past.errors, palette.bad()),
        ("spill/s", &past.spill, palette.doubtful()),
    ];
    for (area, (title, numbers, style)) in areas.into_iter().zip(columns) {
        let shown = numbers.len().min(area.width as usize);
        let tail = numbers.iter().skip(numbers.len() - shown);
        let most = tail.clone().copied().fold(0.0, f64::max);
        // Tenths: a rate of 0.4 is not nothing.
        let mut bars = vec![0; area.width as usize - shown];
        bars.extend(tail.map(|number| (number * 10.0).ceil() as u64));
        let chart = Sparkline::default()
            .data(bars)
            .max(((most * 10.0).ceil() as u64).max(1))
            .style(style)
            .block(section(format!("{title}, up to {} ", rate(most)), palette));
        frame.render_widget(chart, area);
    }
}

/// What does not fit into the row of the backend that is selected.
fn draw_detail(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let Some(backend) = model.backend() else { return };
    let mut text = format!(
        "{}: {} for {}: {}",
        backend.name,
        backend.standing,
        ago(model.live.since(&backend.since)),
        backend.reason
    );
    let mut further = vec![format!("share {}", share(backend.share))];
    further.push(match &*backend.order {
        "drain" => format!("drained by an operator, configured weight {}", backend.configured_weight),
        "weight" => {
            format!("weight {} by an operator, {} configured", backend.weight, backend.configured_weight)
        }
        _ => format!("weight {}", backend.weight),
    });
    further.extend(backend.limit.map(|limit| format!("at most {limit} in flight")));
    further.extend((backend.waiting > 0).then(|| format!("{} waiting", backend.waiting)));
    further.extend(backend.ramp.map(|ramp| format!("{} of its keys have come back", share(ramp))));
    text = format!("{text}; {}", further.join(", "));
    let style = if backend.is_serving() { Style::new() } else { palette.standing(&backend.standing) };
    frame.render_widget(Paragraph::new(text).style(style).wrap(Wrap { trim: true }), area);
}

fn draw_news(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    if area.height == 0 {
        return;
    }
    let rows = area.height.saturating_sub(1) as usize;
    let mut lines: Vec<Line<'_>> = model
        .news
        .newest()
        .take(rows)
        .map(|line| {
            let clock = Span::styled(format!("{} ", line.clock), palette.quiet());
            Line::from(vec![clock, Span::styled(&*line.text, palette.tone(line.tone))])
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled("nothing has changed", palette.quiet()));
    }
    frame.render_widget(Paragraph::new(lines).block(section("events, the newest first ", palette)), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    if let Over::Typing(prompt, typed) = &model.over {
        let label = match prompt {
            Prompt::Filter => "filter: ".to_owned(),
            Prompt::LookUp => {
                format!("who owns, in {}: ", model.pool().map(|pool| &*pool.name).unwrap_or_default())
            }
            Prompt::Weight => "weight: ".to_owned(),
        };
        let room = (area.width as usize).saturating_sub(label.chars().count() + 1);
        let shown: String = typed.chars().skip(typed.chars().count().saturating_sub(room)).collect();
        let at = (label.chars().count() + shown.chars().count()) as u16;
        let line = Line::from(vec![Span::styled(label, palette.title()), Span::raw(shown)]);
        frame.render_widget(Paragraph::new(line), area);
        frame.set_cursor_position((area.x + at.min(area.width.saturating_sub(1)), area.y));
        return;
    }
    let line = match &model.notice {
        Some((tone, text)) => Line::styled(text.as_str(), palette.tone(*tone)),
        None if model.has_token => Line::styled(
            "q quit ? help  tab pool  s sort  / filter  l look up  d drain r restore w weight",
            palette.quiet(),
        ),
        None => Line::styled(
            "q quit  ? help  tab pool  s sort  S reverse  / filter  l look up  e events",
            palette.quiet(),
        ),
    };
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ratatui::{
        Terminal,
        backend::TestBackend,
        crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    };

    use super::*;
    use crate::cli::top::{
        live::{History, Live},
        model::Wish,
    };

    fn data(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/top").join(name)
    }

    fn sample() -> Live {
        serde_json::from_str(&std::fs::read_to_string(data("live.json")).unwrap()).unwrap()
    }

    fn model() -> Model {
        let history = r#"{"totals":{"requests_per_second":[900,1000,1200,1400,1834,1700,1600,1900,2000,1750],
            "errors_per_second":[0,0,0,0,3,2,1,0,0,0],"spill_per_second":[0,0,0,0,0,0,0.4,0,0,0]}}"#;
        let history: History = serde_json::from_str(history).unwrap();
        Model::new("127.0.0.1:9180".into(), true, sample(), history)
    }

    fn screen(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, Palette { has_colours: true })).unwrap();
        let buffer = terminal.backend().buffer();
        let rows = (0..height).map(|y| {
            let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            format!("{}\n", row.trim_end())
        });
        rows.collect()
    }

    /// The screen is what the file says; with `RINGWAY_BLESS` set, the file is what the screen says.
    fn is_as_kept(name: &str, screen: &str) {
        let file = data(name);
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            std::fs::write(&file, screen).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(screen, kept, "{name} is\n{screen}\nand was\n{kept}");
    }

    fn press(model: &mut Model, keys: &str) -> Option<Wish> {
        let mut wish = None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                c => KeyCode::Char(c),
            };
            wish = model.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
        wish
    }

    #[test]
    fn a_narrow_and_a_wide_terminal_show_what_matters() {
        let mut model = model();
        let mut later = sample();
        later.time = "2026-01-02T12:00:06.000Z".into();
        later.pools[0].backends[1].standing = "down".into();
        later.pools[0].backends[1].reason = "3 probes failed: connection refused".into();
        later.pools[0].backends[1].since = "2026-01-02T12:00:05.500Z".into();
        model.take(later);
        is_as_kept("80x24.txt", &screen(&model, 80, 24));
        is_as_kept("140x40.txt", &screen(&model, 140, 40));
    }

    #[test]
    fn what_lies_over_the_view_is_legible_on_a_narrow_terminal() {
        let mut model = model();
        press(&mut model, "?");
        is_as_kept("help.txt", &screen(&model, 80, 24));
        press(&mut model, "x↓d");
        is_as_kept("confirm.txt", &screen(&model, 80, 24));
    }

    #[test]
    fn no_size_is_too_small_to_draw() {
        let mut model = model();
        press(&mut model, "/a-very-long-filter-that-fits-nobody-and-no-terminal");
        for (width, height) in [(1, 1), (2, 3), (7, 30), (200, 2), (20, 10), (500, 100)] {
            screen(&model, width, height);
            for keys in ["\u{1b}?", "xd", "n", "\tl"] {
                press(&mut model, keys);
                screen(&model, width, height);
                press(&mut model, "\u{1b}");
            }
        }
        let empty = Model::new("a".into(), false, Live::default(), History::default());
        screen(&empty, 80, 24);
    }

    #[test]
    fn without_colours_there_are_none() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &model(), Palette { has_colours: false })).unwrap();
        let buffer = terminal.backend().buffer();
        for cell in buffer.content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }

    #[test]
    fn a_lost_connection_is_told_in_the_head() {
        let mut model = model();
        model.lose("connection refused".into(), 4);
        let shown = screen(&model, 100, 24);
        assert!(
            shown.lines().next().unwrap().contains("NO ANSWER, again in 4 s: connection refused"),
            "{shown}"
        );
        assert!(shown.contains("does not answer any more"), "{shown}");
    }
}
