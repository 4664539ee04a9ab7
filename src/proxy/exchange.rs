//! One request from its head to the end of its answer.
//!
//! Owns the order of steps: route, key, owners, attempts, refusal. Start at [`exchange`].

use std::{rc::Rc, task::Poll, time::Instant};

use super::{
    Entered, Gateway, Held, Picture, PoolPlan,
    attempt::{Attempt, Outcome, Ran},
    choose::{Candidates, Next},
    claims::{RequestId, grpc_timeout, is_sane_id},
    client_end::ClientEnd,
    head::Forwarding,
    hedge::hedge,
    onward::{Onward, Repeats, poll_gone},
    place::find_place,
    policy::HostHeader,
    record::{By, Ended, Noted, Record, Routed},
    refuse::{redirect, refuse},
    repeat::{self, may_repeat},
    request_body::{BodyFault, RequestBody},
    rest::LongAnswer,
    rewrite::Rewrite,
    send::ClientFault,
    terms::Progress,
    tunnel::Open,
};
use crate::{
    fleet::{PoolView, Room, Slot},
    http1::{Known, RequestHead, Version},
    ring::{MemberIndex, Place},
    tally::{AttemptEnd, OffOwner, Refusal},
};

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request.
    Next,
    /// Its end.
    Close,
    /// Its end, with patience: the client may still be sending, and must not lose the answer for it.
    Linger,
}

/// Carries one request to its owner, or to whoever stands in, and the answer back.
pub async fn exchange(
    gateway: &Gateway,
    client: &mut ClientEnd,
    head: &RequestHead,
    begun: Instant,
) -> After {
    let picture = gateway.picture();
    let trusted = picture.plan.trusted.contain(client.peer);
    let given_id = if trusted { head.value_of(b"x-request-id").filter(|id| is_sane_id(id)) } else { None };
    let made_id = RequestId::new(gateway.random());
    let mut record = Record {
        gateway,
        head,
        begun,
        client: picture.plan.trusted.client(client.peer, head),
        request_id: given_id.unwrap_or(&made_id.0),
        routed: None,
        ended: Ended::Cancelled,
        first_byte: None,
        received: 0,
        sent: 0,
        attempts: 0,
        repeated: Vec::new(),
        tells: false,
    };
    let mut entered = None;
    let lasting = match carry(picture, client, &mut record, (trusted, &mut entered)).await {
        Ok(after) => return after,
        Err(lasting) => lasting,
    };
    // It can last for days, in which pictures come and go: it must keep none.
    record.leave_picture();
    match lasting {
        Lasting::Tunnel(open) => {
            // Not one of the requests under way any more.
            drop(entered);
            open.run(client, &mut record).await;
            After::Close
        }
        Lasting::Answer(answer) => Box::pin(answer.run(client, &mut record)).await,
    }
}

/// What goes on without the picture.
enum Lasting {
    /// A connection that has changed its protocol.
    Tunnel(Box<Open>),
    /// An answer that has begun.
    Answer(Box<LongAnswer>),
}

/// Carries a request by this picture to the end of its answer, or to what lasts longer than a picture should.
async fn carry(
    picture: Rc<Held>,
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    (trusted, entered): (bool, &mut Option<Entered>),
) -> Result<After, Lasting> {
    let (gateway, head) = (record.gateway, record.head);
    if let Some(port) = client.redirect
        && !client.stream.is_secure()
        && !(trusted && head.values(Known::XForwardedProto).any(|proto| proto.eq_ignore_ascii_case(b"https")))
    {
        let mut body = RequestBody::new(head.framing, 0, None);
        return Ok(redirect(client, record, &mut body, port).await);
    }
    if head.max_forwards == Some(0) {
        let mut body = RequestBody::new(head.framing, 0, None);
        return Ok(refuse(client, record, &mut body, Refusal::MaxForwards).await);
    }
    *entered = match gateway.enter(&picture.plan) {
        Ok(entered) => entered,
        Err(refusal) => {
            let mut body = RequestBody::new(head.framing, 0, None);
            return Ok(refuse(client, record, &mut body, refusal).await);
        }
    };
    let Some(destination) = picture.plan.router.find(head.authority(), head.path()) else {
        let mut body = RequestBody::new(head.framing, 0, None);
        return Ok(refuse(client, record, &mut body, Refusal::NoRoute).await);
    };
    let (pool, rewrite) = (destination.pool, destination.rewrite.as_ref());
    if rewrite.is_some_and(|rewrite| !rewrite.takes(head.path())) {
        let mut body = RequestBody::new(head.framing, 0, None);
        return Ok(refuse(client, record, &mut body, Refusal::DotSegments).await);
    }
    let plan = &picture.plan.pools[pool];
    let forward = &plan.forward;
    record.tells = forward.explain.tells(trusted, head);
    let mut body = RequestBody::new(head.framing, forward.repeat_body_bytes, forward.max_body_bytes);
    let is_refused = |asked| head.version == Version::Http2 && !plan.allows_upgrade(asked);
    // In HTTP/1.1 this is a wish, and the request stands without it. In HTTP/2 it is the request (RFC 8441).
    if head.upgrade().is_some_and(is_refused) {
        return Ok(refuse(client, record, &mut body, Refusal::Protocol).await);
    }
    let by = By::Picture(picture.clone(), pool);
    let routed = Routed { by, key: None, owner: None, member: None, off_owner: None };
    let (place, routed) = match find_place(gateway, plan, head, record.client, routed) {
        (Some(place), routed) => (place, routed),
        (None, routed) => {
            record.routed = Some(routed);
            return Ok(refuse(client, record, &mut body, Refusal::NoKey).await);
        }
    };
    record.routed = Some(routed);
    if body.announces_too_much() {
        return Ok(refuse(client, record, &mut body, Refusal::BodyTooLarge).await);
    }
    let way = Way { picture: &picture, pool, plan, place, rewrite };
    attempts(client, record, &mut body, way).await
}

/// Where a request goes, once that is known.
#[derive(Clone, Copy)]
struct Way<'a> {
    picture: &'a Picture,
    pool: usize,
    plan: &'a PoolPlan,
    place: Place,
    rewrite: Option<&'a Rewrite>,
}

/// Attempts at distinct owners until one answers, or no further one is allowed.
async fn attempts(
    client: &mut ClientEnd,
    record: &mut Record<'_>,
    body: &mut RequestBody,
    way: Way<'_>,
) -> Result<After, Lasting> {
    let Way { picture, pool: index, plan, place, rewrite } = way;
    let (gateway, head) = (record.gateway, record.head);
    let upgrade = head.upgrade().filter(|asked| plan.allows_upgrade(asked));
    let pool = &picture.view.pools[index];
    let rules = plan.rules(head.method);
    let is_nobodys = record.routed.as_ref().is_some_and(|routed| routed.off_owner == Some(OffOwner::NoKey));
    let rules = if is_nobodys { rules.without_key() } else { rules };
    let mut candidates = Candidates::new(pool, place, record.begun, rules);
    let total = [plan.forward.total_timeout, grpc_timeout(head)].into_iter().flatten().min();
    let total = total.map(|limit| record.begun + limit);
    let before = client.told.clone();
    let forwarding = Forwarding {
        peer: client.peer,
        secure: client.stream.is_secure(),
        trusted: picture.plan.trusted.contain(client.peer),
        host: None,
        headers: picture.plan.trusted.headers,
        request_id: record.request_id,
        via: picture.plan.via.as_deref().map(str::as_bytes),
        subject: before.as_ref().and_then(|told| told.subject.as_deref()),
        upgrade,
        websocket_key: upgrade.filter(|_| head.version == Version::Http2).map(|_| gateway.random()),
        rewrite,
    };
    let repeats = Repeats { gateway, view: pool, plan };
    repeats.bring(record.begun);
    let own_host = plan.forward.host_header == HostHeader::Backend || head.authority().is_empty();
    let (mut failed, mut is_paid) = (None, false);
    let mut is_again = false;
    loop {
        // A kept connection that turns out closed says nothing about the backend: it gets the request again, on a new one.
        // One that has done nothing (HTTP/2) gets it once more, too.
        is_again = !is_again && matches!(failed, Some(AttemptEnd::Stale | AttemptEnd::Refused));
        let fresh = is_again && failed == Some(AttemptEnd::Stale);
        let again = if is_again { candidates.latest() } else { None };
        let mut times = 0;
        let chosen = match again {
            Some(member) => Ok((member, Slot::keep(&pool.member(member).backend))),
            None => choose(&mut candidates, (pool, plan), client, gateway, total).await,
        };
        let (member, slot) = match chosen {
            Ok((member, slot)) => (member, Some(slot)),
            Err(None) => {
                record.ended = Ended::Cancelled;
                return Ok(After::Close);
            }
            Err(Some(nobody)) => {
                let once_more =
                    if plan.forward.repeats.backoff.is_some() { candidates.once_more() } else { None };
                let Some((member, tried)) = once_more else {
                    let refusal = failed.map_or(nobody, |end| refusal_for(Some(end)));
                    return Ok(refuse(client, record, body, refusal).await);
                };
                times = tried;
                (member, None)
            }
        };
        if let Some(end) = failed {
            if repeat::is_paid(end, times > 0) && !is_paid && !repeats.pay(end) {
                return Ok(refuse(client, record, body, refusal_for(failed)).await);
            }
            // On the heap, as it is rare.
            if times > 0 && !Box::pin(repeats.pause(client, times, total)).await {
                record.ended = Ended::Cancelled;
                return Ok(After::Close);
            }
            if total.is_some_and(|total| total <= Instant::now()) {
                return Ok(refuse(client, record, body, Refusal::BackendTimeout).await);
            }
            pool.pool.cells(gateway.worker).repeats.at(end as usize).bump();
            record.repeated.push(end);
        }
        record.attempts += 1;
        record.is_at(member, &candidates);
        let slot = slot.unwrap_or_else(|| Slot::keep(&pool.member(member).backend));
        let progress = Progress::default();
        let onward = Onward::new(repeats, &candidates, head.method);
        let told = record.changes(rewrite);
        let host = own_host.then(|| pool.member(member).backend.address.authority());
        let attempt = Attempt {
            gateway,
            pool: &pool.pool,
            plan,
            member: pool.member(member),
            head,
            progress: &progress,
            place: record.routed.as_ref().and_then(|routed| routed.key.as_ref()).map(|_| place),
            onward: &onward,
            total,
            fresh,
            changes: told.as_ref().or(rewrite.map(|rewrite| &rewrite.response)),
            hsts: before.as_ref().and_then(|told| told.hsts.as_deref()),
            forwarding: Forwarding { host: host.as_deref().map(str::as_bytes), ..forwarding },
            ends: plan.approach.preface.and_then(|_| client.ends()),
        };
        let rest;
        let outcome;
        (outcome, rest, is_paid) = {
            let noted = Noted { record, progress: &progress };
            let ran = attempt.run(slot, client, body).await;
            drop(noted);
            match ran {
                Ran::Ended(outcome) => (outcome, None, onward.is_paid()),
                Ran::Begun(begun) => {
                    record.received = body.received();
                    let answer = LongAnswer::new(picture, index, member, *begun, progress.clone(), total);
                    return Err(Lasting::Answer(Box::new(answer)));
                }
                Ran::Late(late) => {
                    let mut rest = candidates.clone();
                    let both = Box::pin(hedge(&attempt, late, &mut rest, repeats, record, client, body));
                    let (outcome, is_paid) = both.await;
                    (outcome, Some(rest), is_paid)
                }
            }
        };
        if let Some(rest) = rest {
            candidates = rest;
        }
        record.received = body.received();
        if let Some(status) = progress.status.get() {
            record.ended = Ended::Answered(status);
        }
        match outcome {
            // The client would read whatever comes now as more of the interim answer.
            _ if progress.within_interim.get() => return Ok(After::Close),
            Outcome::Upgraded(open) => {
                record.ended = Ended::Upgraded;
                return Err(Lasting::Tunnel(open));
            }
            Outcome::Answered { keeps_client } => {
                return Ok(after_answer(keeps_client, body, client));
            }
            Outcome::Failed(end) if may_repeat(end, head.method, body.can_be_sent_again()) => {
                failed = Some(end)
            }
            Outcome::Failed(end) => return Ok(refuse(client, record, body, refusal_for(Some(end))).await),
            Outcome::Truncated => {
                record.ended = Ended::Truncated(progress.status.get().unwrap_or_default());
                return Ok(After::Close);
            }
            Outcome::ClientSlow => return Ok(refuse(client, record, body, Refusal::RequestTimeout).await),
            Outcome::Client(ClientFault::Gone) => {
                record.ended = Ended::Cancelled;
                return Ok(After::Close);
            }
            Outcome::Client(ClientFault::Body(_)) if progress.status.get().is_some() => {
                return Ok(After::Close);
            }
            Outcome::Client(ClientFault::Body(fault)) => {
                let refusal = match fault {
                    BodyFault::TooLarge => Refusal::BodyTooLarge,
                    BodyFault::Malformed(_) => Refusal::Malformed,
                };
                return Ok(refuse(client, record, body, refusal).await);
            }
        }
    }
}

/// The next backend that the request can go to, waiting for a place where the pool says so; or the refusal. Neither: the client has gone.
async fn choose<'v>(
    candidates: &mut Candidates<'v>,
    (pool, plan): (&'v PoolView, &PoolPlan),
    client: &mut ClientEnd,
    gateway: &Gateway,
    total: Option<Instant>,
) -> Result<(MemberIndex, Slot<'v>), Option<Refusal>> {
    match candidates.next_backend() {
        Next::Try(member, slot) => Ok((member, slot)),
        Next::Nobody => Err(Some(candidates.refusal())),
        Next::Wait(member) => {
            let backend = &pool.member(member).backend;
            let mut room = Box::pin(Room::at(backend, gateway.random() as u64, plan.forward.queue));
            let due = Instant::now() + plan.forward.queue_timeout;
            let due = total.map_or(due, |total| total.min(due));
            candidates.waited_for(member);
            let slot = std::future::poll_fn(|cx| {
                if let Poll::Ready(slot) = room.as_mut().poll(cx) {
                    return Poll::Ready(slot.ok_or(Some(Refusal::Full)));
                }
                if poll_gone(client, &gateway.buffers, cx).is_ready() {
                    return Poll::Ready(Err(None));
                }
                client.timer.poll(cx, due).map(|()| Err(Some(Refusal::Full)))
            });
            slot.await.map(|slot| (member, slot))
        }
    }
}

pub(super) fn after_answer(keeps_client: bool, body: &RequestBody, client: &ClientEnd) -> After {
    if keeps_client {
        After::Next
    } else if body.is_over() && client.input.is_empty() {
        After::Close
    } else {
        // Answered before all was read that the client had sent: RFC 9112 section 9.6.
        After::Linger
    }
}

fn refusal_for(failed: Option<AttemptEnd>) -> Refusal {
    match failed {
        None => Refusal::NoBackend,
        Some(AttemptEnd::Timeout | AttemptEnd::ConnectTimeout | AttemptEnd::PerTry) => {
            Refusal::BackendTimeout
        }
        Some(AttemptEnd::Protocol) => Refusal::BackendProtocol,
        Some(AttemptEnd::Shortage) => Refusal::Overload,
        Some(_) => Refusal::BackendBroken,
    }
}
