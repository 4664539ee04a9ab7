//! Server-sent events: a sample each second, and changes as they happen.
//!
//! Owns what one who watches has been sent. It sends what there is when the connection takes it: whoever is slow misses samples, never
//! changes that are still remembered, and nothing waits for it here. Who takes nothing at all is cut off ([`super::patience`]).

use std::{
    convert::Infallible,
    fmt::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    House,
    live::Sample,
    patience::{Patience, Watches},
};
use crate::{
    limits::{EVENT_BATCH, EVENT_HEARTBEAT},
    server::Phase,
};

/// One who watches.
pub(super) struct Feed {
    house: Arc<House>,
    /// `None`: samples are not wanted.
    samples: Option<watch::Receiver<Arc<Sample>>>,
    news: watch::Receiver<u64>,
    /// The number of the last change that was sent.
    sent: u64,
    phase: watch::Receiver<Phase>,
    in_charge: watch::Receiver<bool>,
    /// The token that was shown at the beginning. `None`: none was, or none that was asked for.
    shown: Option<String>,
    _place: OwnedSemaphorePermit,
    _watches: Watches,
}

/// The next piece, with who waits for it; or the end.
type Piece = Pin<Box<dyn Future<Output = Option<(Bytes, Feed)>> + Send>>;

/// The body of an answer that goes on until one side ends it.
pub(super) struct Events(Option<Piece>);

/// Why it goes on.
enum Woken {
    /// There is something to say.
    News,
    /// There has been nothing for a while.
    Silence,
    /// It ends here.
    End,
}

impl Feed {
    /// What begins after the change with this id, or with all changes that are remembered, for somebody who showed this token.
    /// `None`: there are too many who watch.
    pub(super) fn begin(
        (house, client): (&Arc<House>, &Arc<Patience>),
        shown: Option<String>,
        after: Option<&str>,
        with_samples: bool,
    ) -> Option<Feed> {
        let place = house.watchers.clone().try_acquire_owned().ok()?;
        let state = &house.state;
        let mut samples = with_samples.then(|| house.live.watch());
        // The last one is news to this one.
        samples.iter_mut().for_each(watch::Receiver::mark_changed);
        Some(Feed {
            samples,
            news: state.news.watch(),
            sent: after.and_then(|id| state.news.number(id)).unwrap_or(0),
            phase: state.phase.clone(),
            in_charge: state.in_charge.clone(),
            shown,
            house: house.clone(),
            _place: place,
            _watches: client.watches(),
        })
    }

    /// What is sent.
    pub(super) fn events(self) -> Events {
        // At once: whoever asked knows that it has begun, and when to ask again.
        Events(Some(Box::pin(async { Some((Bytes::from_static(b"retry: 2000\n\n"), self)) })))
    }

    async fn next(mut self) -> Option<(Bytes, Feed)> {
        loop {
            if self.is_over() {
                return None;
            }
            if let Some(changes) = self.changes() {
                return Some((changes, self));
            }
            if let Some(samples) = &mut self.samples
                && samples.has_changed().unwrap_or(false)
            {
                let sample = samples.borrow_and_update().event();
                return Some((sample, self));
            }
            match self.woken().await {
                Woken::News => {}
                Woken::Silence => return Some((Bytes::from_static(b":\n\n"), self)),
                Woken::End => return None,
            }
        }
    }

    /// Waits for something to say.
    async fn woken(&mut self) -> Woken {
        let Feed { samples, news, phase, in_charge, .. } = self;
        tokio::select! {
            () = another(samples) => Woken::News,
            Ok(()) = news.changed() => Woken::News,
            () = Phase::Stopping.reached(phase) => Woken::End,
            // Another process answers from now on: whoever asks again finds it.
            _ = in_charge.wait_for(|is_so| !*is_so) => Woken::End,
            () = tokio::time::sleep(EVENT_HEARTBEAT) => Woken::Silence,
        }
    }

    /// Whoever asked so now would be refused: the token is another one, or reading is no longer free.
    fn is_over(&self) -> bool {
        !self.house.state.in_force.load().may_read(self.shown.as_deref().map(str::as_bytes))
    }

    /// Changes that have not been sent yet.
    fn changes(&mut self) -> Option<Bytes> {
        const FITS: &str = "a string takes all that is written";
        self.news.mark_unchanged();
        let news = &self.house.state.news;
        let (items, forgotten) = news.after(self.sent, EVENT_BATCH);
        let last = items.last()?.number;
        let mut text = String::new();
        // Whoever has seen nothing yet has not lost anything either.
        if forgotten && self.sent > 0 {
            text.push_str("event: lost\ndata: {}\n\n");
        }
        for item in &items {
            write!(text, "id: {}\nevent: change\ndata: {}\n\n", news.id(item.number), item.json).expect(FITS);
        }
        self.sent = last;
        Some(text.into())
    }
}

/// Waits for another sample.
async fn another(samples: &mut Option<watch::Receiver<Arc<Sample>>>) {
    match samples {
        Some(samples) => {
            if samples.changed().await.is_err() {
                // None will come any more: the end comes by the phase.
                std::future::pending().await
            }
            // It is seen when it is sent.
            samples.mark_changed();
        }
        None => std::future::pending().await,
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let came = std::task::ready!(next.as_mut().poll(context));
        Poll::Ready(match came {
            Some((bytes, feed)) => {
                self.0 = Some(Box::pin(feed.next()));
                Some(Ok(Frame::data(bytes)))
            }
            None => {
                self.0 = None;
                None
            }
        })
    }
}
