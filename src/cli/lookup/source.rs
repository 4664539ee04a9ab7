//! Who answers: a configuration, in this process, or a running proxy, over its admin listener.
//!
//! Owns the asking, as many questions at once as the other side takes. Prints nothing.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Instant,
};

use super::{
    super::{
        Failed, FileArgument,
        door::{Door, Said, ask},
        exit, fail, load,
    },
    Stopped,
    show::Sheet,
};
use crate::{
    app::{make_plan, offline_view},
    fleet::View,
    limits::{LOOKUP_BODY_BYTES, LOOKUP_QUESTIONS},
    proxy::{
        Plan,
        explain::brief::{Answerer, Detail, Lines, lines_of},
    },
    upstream::Approach,
};

/// Who answers.
pub(super) enum Source {
    /// What a file says.
    File { view: Box<View>, plan: Box<Plan>, pool: Option<String> },
    /// A proxy.
    Running { admin: SocketAddr, token: Option<String>, pool: Option<String> },
}

impl Source {
    /// A file. Nothing is bound and nothing resolved.
    pub(super) fn file(file: &FileArgument, pool: Option<String>) -> Result<Source, Failed> {
        let loaded = load(file)?;
        let pools = &loaded.config.pools;
        if let Some(name) = &pool
            && !pools.iter().any(|pool| *pool.name == **name)
        {
            let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
            let problem = format_args!("there is no pool {name:?}; there are: {}", names.join(", "));
            return Err(fail(exit::USAGE, problem));
        }
        let view = offline_view(&loaded.config).map_err(|error| fail(exit::CONFIG, error))?;
        let approaches = vec![Approach::default(); loaded.config.pools.len()];
        let plan = make_plan(&loaded.config, &approaches, 1, None);
        Ok(Source::File { view: Box::new(view), plan: Box::new(plan), pool })
    }

    /// A running proxy.
    pub(super) fn running(door: &Door, pool: Option<String>) -> Result<Source, Failed> {
        Ok(Source::Running { admin: door.admin, token: door.token()?, pool })
    }

    /// Has these questions answered on the sheet, in their order.
    pub(super) fn ask<W: Write>(
        &mut self,
        questions: &[&[u8]],
        lines: Lines,
        detail: Detail,
        sheet: &mut Sheet<W>,
    ) -> Result<(), Stopped> {
        match self {
            Source::File { view, plan, pool } => {
                let mut answerer = Answerer::new(view, plan, Instant::now(), pool.as_deref(), lines);
                for question in questions {
                    sheet.answer(&mut answerer, question, detail)?;
                }
                Ok(sheet.end_of_batch()?)
            }
            Source::Running { admin, token, pool } => {
                let proxy = Running { admin: *admin, token: token.as_deref(), pool: pool.as_deref() };
                let mut rest = questions;
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(fitting(rest));
                    proxy.ask(now, lines, detail, sheet)?;
                    rest = later;
                }
                Ok(())
            }
        }
    }
}

/// How many of these the other side takes at once. At least one, which it may refuse.
fn fitting(questions: &[&[u8]]) -> usize {
    let mut bytes = 0;
    let fits = questions.iter().take(LOOKUP_QUESTIONS).take_while(|question| {
        bytes += question.len() + 1;
        bytes <= LOOKUP_BODY_BYTES
    });
    fits.count().max(1)
}

struct Running<'a> {
    admin: SocketAddr,
    token: Option<&'a str>,
    pool: Option<&'a str>,
}

impl Running<'_> {
    fn ask<W: Write>(
        &self,
        questions: &[&[u8]],
        lines: Lines,
        detail: Detail,
        sheet: &mut Sheet<W>,
    ) -> Result<(), Stopped> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("input", if lines == Lines::Json { "json" } else { "keys" });
        query.append_pair("detail", if detail == Detail::Full { "full" } else { "brief" });
        query.extend_pairs(self.pool.map(|pool| ("pool", pool)));
        let line = format!("POST /api/lookup?{}", query.finish());
        let mut body = questions.join(&b'\n');
        body.push(b'\n');
        let said = ask(self.admin, &line, self.token, &body, None)
            .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", self.admin)))?;
        match said.status {
            200 => {}
            // The answers are too long together.
            413 if questions.len() > 1 => {
                let (first, second) = questions.split_at(questions.len() / 2);
                self.ask(first, lines, detail, sheet)?;
                return self.ask(second, lines, detail, sheet);
            }
            _ => return Err(self.refused(&said).into()),
        }
        let mut answered = 0;
        for line in lines_of(&said.body) {
            sheet.answered(line, detail).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => {
                    Stopped::from(fail(exit::FAILURE, format_args!("{}: {error}", self.admin)))
                }
                _ => error.into(),
            })?;
            answered += 1;
        }
        if answered != questions.len() {
            let problem = format!("{}: {answered} answers to {} questions", self.admin, questions.len());
            return Err(fail(exit::FAILURE, problem).into());
        }
        Ok(sheet.end_of_batch()?)
    }

    fn refused(&self, said: &Said) -> Failed {
        let hint = match said.status {
            405 => "\nthat proxy is of a version that can't be asked so",
            _ => said.hint(self.token.is_some()),
        };
        fail(exit::FAILURE, format_args!("{}: {}{hint}", self.admin, said.problem()))
    }
}
