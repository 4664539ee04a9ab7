//! `ringway top`: a running proxy in a terminal, second by second.
//!
//! Owns the terminal, which it gives back however it ends, and the loop around [`model`] and [`draw`]. What is shown comes from `/api/live`; nothing is
//! known here that the API does not tell.

mod changes;
mod draw;
mod feed;
mod figures;
mod live;
mod model;
mod news;

use std::io::{self, IsTerminal};

use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{Receiver, channel},
};

use self::{
    draw::{Palette, draw},
    feed::{Proxy, Update, Wishes, begin},
    model::{Model, Wish},
    news::Tone,
};
use super::{Failed, door::Door, exit, fail, runtime, wants_colour};

/// Arguments of `ringway top`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "? lists the keys. With --token-file, backends can be drained, restored and weighted. NO_COLOR is respected."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: Door,
}

/// Updates that wait to be shown. Whoever has one more waits, too.
const UPDATES: usize = 64;

/// Shows it until somebody has seen enough.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(fail(exit::USAGE, "top needs a terminal; programs have /api/live and /metrics"));
    }
    let door = &arguments.door;
    let proxy = Proxy { admin: door.admin, token: door.token()? };
    // Who has the address or the token wrong is told so before the screen changes.
    let live =
        proxy.live().map_err(|problem| fail(exit::FAILURE, format_args!("{}: {problem}", door.admin)))?;
    let model = Model::new(door.admin.to_string(), proxy.token.is_some(), live, proxy.history());
    let palette = Palette { has_colours: wants_colour(&io::stdout()) };
    let runtime = runtime()?;
    // From here on the terminal is ours; a panic gives it back, too.
    let mut terminal =
        ratatui::try_init().map_err(|error| fail(exit::FAILURE, format_args!("the terminal: {error}")))?;
    let shown = runtime.block_on(show(&mut terminal, &proxy, model, palette));
    ratatui::restore();
    shown.map_err(|error| fail(exit::FAILURE, format_args!("the terminal: {error}")))
}

async fn show(
    terminal: &mut DefaultTerminal,
    proxy: &Proxy,
    mut model: Model,
    palette: Palette,
) -> io::Result<()> {
    let (sender, mut updates) = channel(UPDATES);
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = &mut signals else {
        return Err(io::Error::other("signals can't be waited for"));
    };
    let wishes = begin(proxy, &sender)?;
    loop {
        terminal.draw(|frame| draw(frame, &model, palette))?;
        let update = tokio::select! {
            update = updates.recv() => update,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        };
        if !take(&mut model, update, &wishes) || !take_waiting(&mut model, &mut updates, &wishes) {
            return Ok(());
        }
    }
}

/// Those that wait already are shown with the first.
fn take_waiting(model: &mut Model, updates: &mut Receiver<Update>, wishes: &Wishes) -> bool {
    for _ in 0..UPDATES {
        let Ok(update) = updates.try_recv() else { break };
        if !take(model, Some(update), wishes) {
            return false;
        }
    }
    true
}

/// Takes one in. `false`: that was the last.
fn take(model: &mut Model, update: Option<Update>, wishes: &Wishes) -> bool {
    match update {
        None | Some(Update::Closed) => return false,
        Some(Update::Resized) => {}
        Some(Update::Sample(live)) => model.take(*live),
        Some(Update::Lost { why, again }) => model.lose(why, again),
        Some(Update::Hears(hears)) => model.hears = hears,
        Some(Update::Change(line)) => model.news.push(line),
        Some(Update::Told { title, text }) => model.tell(title, text),
        Some(Update::Came { tone, text }) => model.notice(tone, text),
        Some(Update::Key(key)) => match model.press(key) {
            Some(Wish::Quit) => return false,
            Some(wish) => {
                if let Err(problem) = wishes.send(wish) {
                    model.notice(Tone::Worse, problem.to_owned());
                }
            }
            None => {}
        },
    }
    true
}
