//! An attempt while it is under way: its place at the backend, and what its end says about the backend.
//!
//! Owns the counting of attempts, also of those whose task is thrown away, and telling the control plane about failures. Never decides
//! what follows from them: that is [`crate::fleet`].

use std::time::Instant;

use super::{attempt::Attempt, policy::Verdict, terms::Latency};
use crate::{
    fleet::{Event, Fact, KeptSlot, Slot},
    tally::{AttemptEnd, BackendCells},
};

/// An attempt that has not ended yet.
pub(super) struct UnderWay<'a> {
    attempt: &'a Attempt<'a>,
    cells: &'a BackendCells,
    end: AttemptEnd,
    /// When it began, where the backend's bound follows its latency.
    begun: Option<Instant>,
    /// `None`: somebody else keeps it.
    slot: Option<Slot<'a>>,
    /// The backend's trial that it is one of.
    trial: Option<u32>,
    /// Another one goes on with the attempt, and counts it.
    is_handed_on: bool,
}

/// An attempt under way that nobody has at the moment.
#[derive(Debug)]
pub(super) struct HandedOn {
    begun: Option<Instant>,
    latency: Latency,
    trial: Option<u32>,
    _slot: Option<KeptSlot>,
}

impl<'a> UnderWay<'a> {
    pub(super) fn begin(attempt: &'a Attempt<'a>, slot: Slot<'a>) -> UnderWay<'a> {
        let worker = attempt.gateway.worker;
        attempt.pool.cells(worker).slots_begun.bump();
        let under_way = UnderWay {
            attempt,
            cells: attempt.member.backend.cells(worker),
            end: AttemptEnd::Cancelled,
            begun: attempt.plan.forward.adaptive.then(Instant::now),
            trial: slot.trial(),
            slot: Some(slot),
            is_handed_on: false,
        };
        under_way.goes_on();
        under_way
    }

    /// The answer that comes next is that of this attempt, and of none beside it.
    pub(super) fn goes_on(&self) {
        if let Some(begun) = self.begun {
            self.attempt.progress.latency.set(Latency::Since(begun));
        }
    }

    /// Lets another one go on with the attempt.
    pub(super) fn hand_on(mut self) -> HandedOn {
        self.is_handed_on = true;
        let Attempt { member, progress, .. } = self.attempt;
        HandedOn {
            begun: self.begun,
            latency: progress.latency.take(),
            trial: self.trial,
            _slot: self.slot.take().map(|slot| slot.kept(&member.backend)),
        }
    }

    /// Goes on with an attempt. Its place is not given back here.
    pub(super) fn go_on(attempt: &'a Attempt<'a>, from: &HandedOn) -> UnderWay<'a> {
        attempt.progress.latency.set(from.latency);
        UnderWay {
            attempt,
            cells: attempt.member.backend.cells(attempt.gateway.worker),
            end: AttemptEnd::Cancelled,
            begun: from.begun,
            trial: from.trial,
            slot: None,
            is_handed_on: false,
        }
    }

    /// How it is counted if nothing else ends it.
    pub(super) fn unless_ended(mut self, end: AttemptEnd) -> UnderWay<'a> {
        self.end = end;
        self
    }

    pub(super) fn end<T>(mut self, end: AttemptEnd, outcome: T) -> T {
        self.end = end;
        outcome
    }

    fn tell(&self, fact: Fact) {
        // Where the control task can't keep up, the next failure tells it.
        let _ = self.attempt.gateway.report.try_send(Event { backend: self.attempt.member.backend.id, fact });
    }

    fn judge(&self) {
        let Attempt { member, plan, progress, .. } = self.attempt;
        let (load, failures) = (&member.backend.load, &plan.forward.failures);
        // What was sent in an earlier trial, or before any, decides nothing in this one.
        let on_trial = self.trial.is_some_and(|number| load.is_trial(number));
        let status = progress.status.get().or(progress.passed_over.get());
        match failures.judge(self.end, status) {
            Verdict::Neither => {}
            Verdict::Success => {
                load.succeeded();
                if on_trial && load.trial_succeeded() == failures.trial {
                    self.tell(Fact::TrialPassed);
                }
            }
            Verdict::Failure => {
                self.cells.failed.bump();
                let count = load.failed();
                let every = failures.consecutive;
                if on_trial || every > 0 && count.is_multiple_of(every) {
                    self.tell(Fact::Struck { failures: count, last: self.end.word() });
                }
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.is_handed_on {
            return;
        }
        self.cells.attempts.at(self.end as usize).bump();
        self.cells.ended.bump();
        self.attempt.pool.cells(self.attempt.gateway.worker).slots_ended.bump();
        self.judge();
        let latency = &self.attempt.progress.latency;
        if self.begun.is_some() && latency.replace(Latency::Uncounted) == Latency::Counted {
            self.cells.answers_ended.bump();
        }
    }
}
