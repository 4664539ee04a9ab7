//! What lies over the view: help, questions, answers.
//!
//! Owns their frames and the text of the help.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    text::Line,
    widgets::{Block, Clear, Padding, Paragraph, Wrap},
};

use super::{
    super::model::{Model, Over},
    Palette,
};

const HELP: &str = "tab, shift-tab   the next pool, the one before
up, down, j, k   select a backend; also page up and down, home, end
s                sort by the next column; S turns the order round
/                show only backends with this in their name or standing
l                who owns a key of this pool, who would get it now, and why
e                show events, or not
d                drain the selected backend: no new requests
r                take a drain or another weight back
w                give it another weight
q, ctrl-c        quit

d, r and w ask before they do anything, and need --token-file.

NOT HOME   requests/s that went to another backend than the key's owner
SPILL      of these, the ones for which the owner had too much to do
P50, P99   time to the answer's head, of the last ten seconds";

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    match &model.over {
        Over::Nothing | Over::Typing(..) => {}
        Over::Help => window(frame, area, "keys", HELP, "any key closes this", palette),
        Over::Text(title, text) => window(frame, area, title, text, "any key closes this", palette),
        Over::Confirm(_, question) => {
            window(frame, area, "sure?", question, "y: yes   any other key: no", palette);
        }
    }
}

/// A window in the middle, as large as its text needs and the terminal allows.
fn window(frame: &mut Frame<'_>, area: Rect, title: &str, text: &str, foot: &str, palette: Palette) {
    let longest = text.lines().chain([title, foot]).map(|line| line.chars().count()).max().unwrap_or(0);
    let width = (longest as u16).saturating_add(4).min(area.width);
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let lines: usize = text.lines().map(|line| line.chars().count().div_ceil(inner).max(1)).sum();
    let height = (lines as u16).saturating_add(2).min(area.height);
    let place = area.centered(Constraint::Length(width), Constraint::Length(height));
    let block = Block::bordered()
        .padding(Padding::horizontal(1))
        .border_style(palette.title())
        .title(Line::styled(format!(" {title} "), palette.title()))
        .title_bottom(Line::styled(format!(" {foot} "), palette.quiet()));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), place);
}
