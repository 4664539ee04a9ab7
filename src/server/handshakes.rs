//! The TLS handshakes of a worker that are under way.
//!
//! Owns their bound. One too many pushes the oldest out: whoever has said nothing for longest gives way to whoever has just come, so that
//! clients that only connect can't keep others from getting in. A client that answers in its round trip is through long before.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use tokio::sync::Notify;

use crate::limits::HANDSHAKES;

/// Those under way, by their age.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    places: RefCell<BTreeMap<u64, Rc<Notify>>>,
    next: Cell<u64>,
}

/// The place of one. It is given up when this is dropped.
#[derive(Debug)]
pub(super) struct HandshakePlace<'a> {
    all: &'a Handshakes,
    number: u64,
    is_lost: Rc<Notify>,
}

impl Handshakes {
    /// Takes a place, from the oldest one if there is no other.
    pub(super) fn enter(&self) -> HandshakePlace<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let is_lost = Rc::new(Notify::new());
        let mut places = self.places.borrow_mut();
        if places.len() >= HANDSHAKES
            && let Some((_, oldest)) = places.pop_first()
        {
            oldest.notify_one();
        }
        places.insert(number, is_lost.clone());
        HandshakePlace { all: self, number, is_lost }
    }
}

impl HandshakePlace<'_> {
    /// Waits until another one has taken it.
    pub(super) async fn lost(&self) {
        self.is_lost.notified().await;
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.all.places.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let handshakes = Handshakes::default();
            let mut places: Vec<_> = (0..HANDSHAKES).map(|_| handshakes.enter()).collect();
            // One that ends leaves room: nobody has to go.
            drop(places.remove(3));
            places.push(handshakes.enter());
            for place in &places {
                assert!(tokio::time::timeout(std::time::Duration::ZERO, place.lost()).await.is_err());
            }
            let newest = handshakes.enter();
            places[0].lost().await;
            assert!(tokio::time::timeout(std::time::Duration::ZERO, places[1].lost()).await.is_err());
            drop((places, newest));
            assert!(handshakes.places.borrow().is_empty());
        });
    }
}
