//! The rest of a long answer: what comes after its beginning has been passed on.
//!
//! Owns what that needs of the picture that the request came by, which is let go of: an answer may last for days, an event stream for example.
//! Never begins an answer, and is followed by no other attempt.

use std::{sync::Arc, time::Instant};

use super::{
    Picture, Plan,
    answer::Answered,
    attempt::{Attempt, Begun, Outcome},
    client_end::ClientEnd,
    exchange::{After, after_answer},
    form::Carriage,
    head::Forwarding,
    onward::Onward,
    record::{Ended, Noted, Record},
    request_body::RequestBody,
    send::ClientFault,
    terms::Progress,
};
use crate::{
    fleet::{MemberView, Pool},
    http1::{BodyReader, Framing},
    ring::MemberIndex,
};

/// The rest of an answer whose beginning has been passed on.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) body: BodyReader,
    pub(super) carriage: Carriage,
    /// The end of the client's connection is the end of the body.
    pub(super) ends_with_client: bool,
    /// What it comes to if all goes well.
    pub(super) answered: Answered,
}

/// What becomes of the rest of a long answer.
pub(super) enum Leave<'a> {
    /// It is passed on, too.
    Nothing,
    /// It is left here once the whole request has been sent, before anything is waited for.
    To(&'a mut Option<Rest>),
    /// This is all that there is to pass on.
    From(Rest),
}

/// An answer that has begun, with what is needed to go on with it.
#[derive(Debug)]
pub(super) struct LongAnswer {
    begun: Begun,
    progress: Progress,
    total: Option<Instant>,
    pool: Arc<Pool>,
    plan: Arc<Plan>,
    /// Which of the plan's pools it is.
    index: usize,
    member: MemberView,
}

impl LongAnswer {
    /// Of this member of the pool at `index`; `total` is when the whole exchange must be over.
    pub(super) fn new(
        picture: &Picture,
        index: usize,
        member: MemberIndex,
        begun: Begun,
        progress: Progress,
        total: Option<Instant>,
    ) -> LongAnswer {
        let view = &picture.view.pools[index];
        let (pool, plan) = (view.pool.clone(), picture.plan.clone());
        LongAnswer { begun, progress, total, pool, plan, index, member: view.member(member).clone() }
    }

    /// Passes it on to its end.
    pub(super) async fn run(self, client: &mut ClientEnd, record: &mut Record<'_>) -> After {
        let LongAnswer { begun, progress, total, pool, plan, index, member } = self;
        // The request has been sent: what it was made from is not looked at any more.
        let forwarding = Forwarding {
            peer: client.peer,
            secure: client.stream.is_secure(),
            trusted: false,
            host: None,
            headers: plan.trusted.headers,
            request_id: record.request_id,
            via: None,
            subject: None,
            upgrade: None,
            websocket_key: None,
            rewrite: None,
        };
        let onward = Onward::nobody();
        let attempt = Attempt {
            gateway: record.gateway,
            pool: &pool,
            plan: &plan.pools[index],
            member: &member,
            head: record.head,
            progress: &progress,
            place: None,
            onward: &onward,
            total,
            fresh: false,
            forwarding,
            changes: None,
            hsts: None,
            ends: None,
        };
        let mut body = RequestBody::new(Framing::None, 0, None);
        // Until it has ended well.
        record.ended = Ended::Cancelled;
        let noted = Noted { record, progress: &progress };
        let outcome = attempt.finish(begun, client, &mut body).await;
        drop(noted);
        let status = progress.status.get().unwrap_or_default();
        record.ended = match outcome {
            Outcome::Truncated => Ended::Truncated(status),
            Outcome::Client(ClientFault::Gone) => Ended::Cancelled,
            _ => Ended::Answered(status),
        };
        match outcome {
            Outcome::Answered { keeps_client } => after_answer(keeps_client, &body, client),
            _ => After::Close,
        }
    }
}
