//! The tables of pools and of backends.
//!
//! Owns their columns: what is left out where there is no room for it, and which rows are seen where there are more than rows.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    super::{
        figures::{ago, count, rate, seconds, share},
        live::{Backend, Live, Pool},
        model::{Model, Sort},
    },
    Palette, section,
};

/// A name is cut where it is longer.
const NAME_MOST: usize = 24;

/// The width of all columns of the backends but the name and the reason.
const FIXED: usize = 63;

/// So much room makes a column of the reason worth its while.
const REASON_LEAST: usize = 16;

/// So much more makes one of the weight.
const WEIGHT: usize = 9;

/// A text as wide as a column: cut, which a sign tells, or filled.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width - length));
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect()
}

fn name_width<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).clamp(8, NAME_MOST)
}

/// The rows that are seen, so that the selected one is among them.
fn window(selected: usize, rows: usize) -> usize {
    (selected + 1).saturating_sub(rows)
}

pub(super) fn draw_pools(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    if area.height < 3 {
        return;
    }
    let pools = &model.live.pools;
    let width = name_width(pools.iter().map(|pool| &pool.name));
    let title = format!(
        "  {} {:>9} {:>6} {:>6} {:>6} {:>8} {:>6} {:>6} {:>6} {:>6}",
        fit("POOL", width),
        "SERVING",
        "REQ/S",
        "ERR/S",
        "FLIGHT",
        "NOT HOME",
        "SPILL",
        "REPEAT",
        "P50",
        "P99"
    );
    let mut lines = vec![Line::styled(title, palette.quiet())];
    let rows = area.height as usize - 2;
    for (at, pool) in pools.iter().enumerate().skip(window(model.pool, rows)).take(rows) {
        lines.push(pool_row(pool, width, at == model.pool, palette));
    }
    frame.render_widget(
        Paragraph::new(lines).block(section(format!("{} pools ", pools.len()), palette)),
        area,
    );
}

fn pool_row(pool: &Pool, width: usize, is_selected: bool, palette: Palette) -> Line<'static> {
    let serving = format!("{}/{}", pool.serving, pool.backends.len());
    let is_whole = pool.serving == pool.backends.len();
    let mark = if is_selected { "> " } else { "  " };
    let mut line = Line::from(vec![
        Span::raw(format!("{mark}{} ", fit(&pool.name, width))),
        Span::styled(format!("{serving:>9} "), if is_whole { palette.good() } else { palette.bad() }),
        Span::raw(format!("{:>6} ", rate(pool.requests_per_second))),
        Span::styled(
            format!("{:>6} ", rate(pool.errors_per_second)),
            errors(pool.errors_per_second, palette),
        ),
        Span::raw(format!(
            "{:>6} {:>8} {:>6} {:>6} {:>6} {:>6}",
            count(pool.in_flight),
            rate(pool.off_owner()),
            rate(pool.spill_per_second),
            rate(pool.repeats_per_second),
            seconds(pool.first_byte_p50),
            seconds(pool.first_byte_p99)
        )),
    ]);
    if is_selected {
        line = line.style(palette.selected());
    }
    line
}

fn errors(rate: f64, palette: Palette) -> Style {
    if rate > 0.0 { palette.bad() } else { Style::new() }
}

pub(super) fn draw_backends(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let Some(pool) = model.pool() else {
        return frame.render_widget(Paragraph::new("there are no pools"), area);
    };
    if area.height < 3 {
        return;
    }
    let backends = model.backends();
    let longest = name_width(pool.backends.iter().map(|backend| &backend.name));
    let name = longest.min((area.width as usize).saturating_sub(FIXED - 2)).max(8);
    let room = (area.width as usize).saturating_sub(name + FIXED);
    let weight = room >= REASON_LEAST + WEIGHT;
    let reason = match room {
        _ if room < REASON_LEAST => 0,
        _ if weight => room - WEIGHT,
        _ => room,
    };
    let columns = Columns { name, weight, reason };
    let mut lines = vec![Line::styled(columns.title(), palette.quiet())];
    let rows = area.height as usize - 2;
    for (at, backend) in backends.iter().enumerate().skip(window(model.selected, rows)).take(rows) {
        lines.push(columns.row(&model.live, backend, at == model.selected, palette));
    }
    frame.render_widget(
        Paragraph::new(lines).block(section(caption(model, pool, backends.len()), palette)),
        area,
    );
}

fn caption(model: &Model, pool: &Pool, shown: usize) -> String {
    let mut title = format!("pool {}: {} backends, {} serving", pool.name, pool.backends.len(), pool.serving);
    if !model.filter.is_empty() {
        title += &format!(", {shown} with {:?}", model.filter);
    }
    match (model.sort, model.reversed) {
        (Sort::Configured, false) => {}
        (sort, false) => title += &format!(", by {}", sort.word()),
        (sort, true) => title += &format!(", by {}, reversed", sort.word()),
    }
    title + " "
}

/// Which columns there is room for.
struct Columns {
    name: usize,
    weight: bool,
    /// Its width; 0: none.
    reason: usize,
}

impl Columns {
    fn title(&self) -> String {
        let weight = if self.weight { format!("{:>8} ", "WEIGHT") } else { String::new() };
        format!(
            "  {} {:10} {:>6} {weight}{:>6} {:>6} {:>6} {:>6} {:>6} {:>5}  {}",
            fit("BACKEND", self.name),
            "STANDING",
            "SHARE",
            "FLIGHT",
            "REQ/S",
            "ERR/S",
            "P50",
            "P99",
            "SINCE",
            if self.reason > 0 { "REASON" } else { "" }
        )
        .trim_end()
        .to_owned()
    }

    fn row(&self, live: &Live, backend: &Backend, is_selected: bool, palette: Palette) -> Line<'static> {
        let mark = if is_selected { "> " } else { "  " };
        let weight = if self.weight { format!("{:>8} ", backend.weight) } else { String::new() };
        let mut line = Line::from(vec![
            Span::raw(format!("{mark}{} ", fit(&backend.name, self.name))),
            Span::styled(fit(&backend.standing, 11), palette.standing(&backend.standing)),
            Span::raw(format!(
                "{:>6} {weight}{:>6} {:>6} ",
                share(backend.share),
                count(backend.in_flight),
                rate(backend.requests_per_second)
            )),
            Span::styled(
                format!("{:>6} ", rate(backend.errors_per_second)),
                errors(backend.errors_per_second, palette),
            ),
            Span::raw(format!(
                "{:>6} {:>6} {:>5}  {}",
                seconds(backend.first_byte_p50),
                seconds(backend.first_byte_p99),
                ago(live.since(&backend.since)),
                if self.reason > 0 { fit(&backend.reason, self.reason) } else { String::new() }
            )),
        ]);
        if is_selected {
            line = line.style(palette.selected());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        assert_eq!(["abc", "abcd", "abcde"].map(|text| fit(text, 4)), ["abc ", "abcd", "abc…"]);
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn the_selected_row_is_seen() {
        assert_eq!(
            [(0, 5), (4, 5), (5, 5), (99, 1), (3, 0)].map(|(at, rows)| window(at, rows)),
            [0, 0, 1, 99, 4]
        );
    }
}
