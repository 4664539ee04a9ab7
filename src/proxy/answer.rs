//! The backend's side of an attempt: reads the answer and passes it on as it comes.
//!
//! Owns reading from the backend and writing to the client while an attempt lasts. Never collects a body.

use std::{io, time::Duration};

use tokio::net::TcpStream;

use super::{
    form::Carriage,
    head::{ClientFraming, write_answer, write_switch},
    own_fields::OwnFields,
    rest::{Leave, Rest},
    terms::Terms,
    waits::{Slow, Waits},
};
use crate::{
    http1::{AnswerError, AnswerHead, BodyReader, Framing, Parsed, Piece, Version, has_head_end},
    io::{Buffer, BufferPool, Pipe, Pipes, ReadHalf, WriteHalf},
    limits::{ANSWER_HEAD_BYTES, BUFFER_BYTES, BULK_BUFFER_BYTES, INTERIM_ANSWERS, PIPE_BYTES, SPLICE_FROM},
    tally::AttemptEnd,
};

/// An answer that has been passed on as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// The connection to the backend can be used again.
    pub(super) keeps_backend: bool,
    /// It has no body by its status or its request's method: a backend may err about that.
    pub(super) is_bare: bool,
    /// The connection to the client stays open.
    pub(super) keeps_client: bool,
    /// Both sides have changed to another protocol: what follows is not HTTP.
    pub(super) has_switched: bool,
}

/// Why an answer was not passed on as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// By the backend.
    Backend(AttemptEnd),
    /// The client takes nothing any more.
    Client,
    /// Its status has the request sent elsewhere, and nothing of it was passed on.
    PassedOver {
        /// All of it has been read: the connection can be used again.
        keeps_backend: bool,
    },
    /// For now: there is more to come, and whoever goes on with it has what is to be known.
    ForNow,
}

/// The log alone says what is wrong with it: clients are told nothing about the inside.
fn refused(error: AnswerError) -> Cut {
    tracing::debug!(%error, "an answer is refused");
    Cut::Backend(AttemptEnd::Protocol)
}

/// Everything that receiving needs.
pub(super) struct Receiving<'a> {
    pub(super) reader: ReadHalf<'a>,
    pub(super) input: &'a mut Buffer,
    pub(super) writer: WriteHalf<'a>,
    /// Where buffers come from once there is something to read or write.
    pub(super) buffers: &'a BufferPool,
    pub(super) pipes: &'a Pipes,
    pub(super) out: Vec<u8>,
    /// The final answer's head with its length, if it has been read already.
    pub(super) head: Option<(AnswerHead, usize)>,
    /// The answer of which this is the rest; or where the rest of an answer is left that takes longer, if it may be.
    pub(super) rest: Leave<'a>,
    pub(super) waits: &'a Waits,
    pub(super) terms: Terms<'a>,
    pub(super) client_limit: Duration,
    pub(super) backend_limit: Duration,
    /// The connection had carried an exchange before.
    pub(super) reused: bool,
}

impl Receiving<'_> {
    /// Passes the answer on.
    pub(super) async fn run(mut self) -> Result<Answered, Cut> {
        let result = match std::mem::replace(&mut self.rest, Leave::Nothing) {
            Leave::From(rest) => self.go_on(rest).await,
            rest => {
                self.rest = rest;
                self.receive().await
            }
        };
        self.buffers.recycle(self.out);
        result
    }

    async fn receive(&mut self) -> Result<Answered, Cut> {
        let (head, length) = match self.head.take() {
            Some(read) => read,
            None => self.final_head().await?,
        };
        if head.status == 101 {
            return self.switch(&head, length).await;
        }
        let framing = head.framing(self.terms.request.method).map_err(refused)?;
        if self.terms.is_taken_for_switch(&head) {
            return Err(Cut::Backend(AttemptEnd::Protocol));
        }
        if self.terms.onward.leaves_for(head.status) {
            self.terms.progress.passed_over.set(Some(head.status));
            self.input.consume(length);
            let is_over = self.has_been_read(BodyReader::new(framing));
            return Err(Cut::PassedOver { keeps_backend: is_over && head.keep_alive });
        }
        self.waits.answer_begins();
        self.out = self.buffers.output();
        let client = self.terms.begin(&mut self.out, self.input.filled(), &head, framing);
        self.input.consume(length);
        if client.body == Framing::Close {
            self.close_means_reset(true);
        }
        let keeps_backend = head.keep_alive && framing != Framing::Close;
        let is_bare = framing == Framing::None;
        let answered =
            Answered { keeps_backend, is_bare, keeps_client: client.keep_alive, has_switched: false };
        let (body, carriage) = (BodyReader::new(framing), client.carriage());
        let ends_with_client = client.body == Framing::Close;
        let rest = match (framing, client.body) {
            (Framing::None | Framing::Length(0), _) => {
                self.write_out().await?;
                return Ok(answered);
            }
            (Framing::Length(_), _) => self.begin_length(body, carriage).await?,
            _ => self.begin_pieces(body, carriage).await?,
        };
        let rest = rest.map(|body| Rest { body, carriage, ends_with_client, answered });
        match (&mut self.rest, rest) {
            (_, None) => {}
            // A request that is still being sent goes on being sent here.
            (Leave::To(left), Some(rest)) if self.terms.sent.get() => {
                **left = Some(rest);
                return Err(Cut::ForNow);
            }
            (_, Some(rest)) => return self.go_on(rest).await,
        }
        if ends_with_client {
            self.close_means_reset(false);
        }
        Ok(answered)
    }

    /// Passes on what is still to come.
    async fn go_on(&mut self, rest: Rest) -> Result<Answered, Cut> {
        let Rest { body, carriage, ends_with_client, answered } = rest;
        match body.is_counted() {
            true => self.pass_length(body, carriage).await?,
            false => self.pass_pieces(body, carriage).await?,
        }
        if ends_with_client {
            self.close_means_reset(false);
        }
        Ok(answered)
    }

    /// Throws away what is at hand of a body. Whether that was all: more is not waited for.
    fn has_been_read(&mut self, mut body: BodyReader) -> bool {
        while !body.is_over() {
            match body.next(self.input.filled()) {
                Ok(Piece::Framing(n) | Piece::Data(n) | Piece::End(n)) => self.input.consume(n),
                Ok(Piece::More) | Err(_) => return false,
            }
        }
        true
    }

    /// Tells the client that the protocol has changed. What the backend has sent behind its answer stays where it is.
    async fn switch(&mut self, head: &AnswerHead, length: usize) -> Result<Answered, Cut> {
        self.waits.answer_begins();
        self.terms.note(head.status);
        self.out = self.buffers.output();
        write_switch(
            &mut self.out,
            self.input.filled(),
            head,
            self.terms.upgrade.unwrap_or_default(),
            (self.terms.request.version, OwnFields { date: None, hsts: self.terms.hsts }),
        );
        self.input.consume(length);
        self.write_out().await?;
        Ok(Answered { keeps_backend: false, is_bare: true, keeps_client: false, has_switched: true })
    }

    /// The client takes the connection's end for the body's. So until the body has ended, whatever closes the connection
    /// (a fault on either side, a time that ran out, the end of this process) must not look like an end.
    fn close_means_reset(&self, so: bool) {
        if let Err(error) = self.writer.close_means_reset(so) {
            // A Unix socket never can, which is said once, in the README.
            if error.kind() == io::ErrorKind::Unsupported {
                return;
            }
            tracing::warn!(%error, "a client may take a broken answer for a whole one: its connection can't be reset");
        }
    }

    /// Passes interim answers on until the final one's head is at hand.
    async fn final_head(&mut self) -> Result<(AnswerHead, usize), Cut> {
        let mut head = AnswerHead::default();
        let mut interim = 0;
        loop {
            let length = self.read_head(&mut head).await?;
            let asked_for = |protocol| head.switches_to(protocol, self.input.filled());
            if !head.is_interim() || self.terms.upgrade.is_some_and(asked_for) {
                return Ok((head, length));
            }
            interim += 1;
            // Nobody asked for that protocol.
            if head.status == 101 || interim > INTERIM_ANSWERS {
                return Err(Cut::Backend(AttemptEnd::Protocol));
            }
            // Whatever happens now, the connection was not closed before the request came.
            self.reused = false;
            self.pass_interim(&head).await?;
            self.input.consume(length);
        }
    }

    /// Reads until a whole head is at hand, and tells its length.
    async fn read_head(&mut self, head: &mut AnswerHead) -> Result<usize, Cut> {
        if self.input.is_empty() {
            // A request that waits for its backend holds no buffer.
            // What an error means, the read below tells.
            let _ = std::future::poll_fn(|cx| self.reader.poll_read_ready(cx)).await;
            self.buffers.lend(self.input);
        }
        let (mut scanned, mut look_again_at) = (0, 0);
        loop {
            // Parsing begins at the front each time, so it is done as for a client's head that drips in.
            let filled = self.input.filled();
            let is_full = self.input.is_full(ANSWER_HEAD_BYTES);
            let look = !filled.is_empty()
                && (is_full || filled.len() >= look_again_at || has_head_end(filled, scanned));
            scanned = filled.len();
            if look {
                match head.parse(self.input.filled()) {
                    Ok(Parsed::Complete(length)) => return Ok(length),
                    Ok(Parsed::Partial) if is_full => {
                        return Err(Cut::Backend(AttemptEnd::Protocol));
                    }
                    Ok(Parsed::Partial) => look_again_at = self.input.filled().len() * 2,
                    Err(error) => return Err(refused(error)),
                }
            }
            let read =
                std::future::poll_fn(|cx| self.input.poll_fill(&mut self.reader, cx, ANSWER_HEAD_BYTES));
            let read = read.await;
            let kind = read.as_ref().err().map(io::Error::kind);
            // What a stream of HTTP/2 tells about its end.
            match kind {
                Some(io::ErrorKind::ConnectionRefused) => return Err(Cut::Backend(AttemptEnd::Refused)),
                Some(io::ErrorKind::InvalidData) => return Err(Cut::Backend(AttemptEnd::Protocol)),
                _ => {}
            }
            if matches!(read, Ok(0) | Err(_)) {
                let alone = kind == Some(io::ErrorKind::ConnectionAborted);
                let stale = self.reused && self.input.is_empty() && !alone;
                return Err(Cut::Backend(if stale { AttemptEnd::Stale } else { AttemptEnd::Broken }));
            }
        }
    }

    /// 100, 103 and the like go to those who know them (RFC 9110 section 15.2).
    async fn pass_interim(&mut self, head: &AnswerHead) -> Result<(), Cut> {
        if head.status == 100 {
            self.terms.progress.continued.set(true);
            if !self.terms.sent.get() {
                self.waits.body_is_asked_for(self.client_limit);
            }
        }
        if self.terms.request.version == Version::Http10 {
            return Ok(());
        }
        let version = self.terms.request.version;
        let client = ClientFraming { body: Framing::None, keep_alive: true, version };
        self.out.clear();
        write_answer(&mut self.out, self.input.filled(), head, client, None);
        self.terms.progress.within_interim.set(true);
        self.write_out().await?;
        self.terms.progress.within_interim.set(false);
        Ok(())
    }

    /// The beginning of a body of known length: what is there goes with the head. The rest, if there is more.
    async fn begin_length(
        &mut self,
        mut body: BodyReader,
        carriage: Carriage,
    ) -> Result<Option<BodyReader>, Cut> {
        self.pass_at_hand(&mut body, carriage).await?;
        Ok((!body.is_over()).then_some(body))
    }

    /// Passes on what is at hand of a body of known length.
    async fn pass_at_hand(&mut self, body: &mut BodyReader, carriage: Carriage) -> Result<(), Cut> {
        let Ok(piece) = body.next(self.input.filled()) else {
            return Err(Cut::Backend(AttemptEnd::Truncated));
        };
        let n = if let Piece::Data(n) = piece { n } else { 0 };
        if self.out.capacity() == 0 {
            self.out = self.buffers.output();
        }
        carriage.write_before(n, body.is_over(), &mut self.out);
        // Small answers leave in one piece with one copy, which is less work than two pieces.
        if self.out.len() + n <= BUFFER_BYTES && !self.out.is_empty() {
            self.out.extend_from_slice(&self.input.filled()[..n]);
            self.input.consume(n);
            self.rest_input(carriage);
            self.write_out().await?;
        } else {
            if carriage == Carriage::Frames {
                // What stands before the payload waits for nothing. The payload may, and then holds one buffer.
                self.write_out().await?;
                self.buffers.recycle(std::mem::take(&mut self.out));
            }
            let (out, data) = (&self.out, &self.input.filled()[..n]);
            let written =
                self.waits.write_both(Slow::ClientTakes, self.client_limit, &mut self.writer, out, data);
            written.await.map_err(|_| Cut::Client)?;
            self.out.clear();
            self.input.consume(n);
        }
        self.terms.passed(n);
        Ok(())
    }

    /// The rest of a body of known length, straight through.
    async fn pass_length(&mut self, mut body: BodyReader, carriage: Carriage) -> Result<(), Cut> {
        while !body.is_over() {
            if body.known_rest() >= SPLICE_FROM
                && let (Some(from), Some(to)) = (self.reader.bare(), self.writer.bare())
                && let Some(pipe) = self.pipes.take()
            {
                self.buffers.take_back(self.input);
                return self.splice(body, pipe, from, to).await;
            }
            // Of the streams of one client many can stand still at once: those that move get the long buffer.
            if carriage != Carriage::Frames || self.terms.progress.passed.get() >= BUFFER_BYTES as u64 {
                self.input.grow(BULK_BUFFER_BYTES);
            }
            self.read_body(&mut body).await?;
            self.pass_at_hand(&mut body, carriage).await?;
        }
        Ok(())
    }

    /// The rest of a long body, which nobody here needs to see.
    async fn splice(
        &self,
        mut body: BodyReader,
        mut pipe: Pipe,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Result<(), Cut> {
        while !body.is_over() {
            let most = body.known_rest().min(PIPE_BYTES as u64) as usize;
            let take = self.waits.take_in(Slow::BackendSends, self.backend_limit, from, &mut pipe, most);
            let Ok(n @ 1..) = take.await else {
                return Err(Cut::Backend(AttemptEnd::Truncated));
            };
            body.skip(n as u64);
            let give = self.waits.give_out(Slow::ClientTakes, self.client_limit, &mut pipe, to);
            give.await.map_err(|_| Cut::Client)?;
            self.terms.passed(n);
            if !body.is_over() {
                // Two fast ends could keep the worker to themselves.
                tokio::task::yield_now().await;
            }
        }
        self.pipes.give_back(pipe);
        Ok(())
    }

    /// The beginning of a body whose end is only known when it comes. The rest, if there is more.
    async fn begin_pieces(
        &mut self,
        mut body: BodyReader,
        carriage: Carriage,
    ) -> Result<Option<BodyReader>, Cut> {
        if self.take_pieces(&mut body, carriage).is_err() {
            // Nothing of the answer has been written: the client need never know about it.
            return Err(self.unsaid());
        }
        self.rest_input(carriage);
        self.write_out().await?;
        Ok((!body.is_over()).then_some(body))
    }

    /// The rest of it. What has come is passed on before more is waited for.
    async fn pass_pieces(&mut self, mut body: BodyReader, carriage: Carriage) -> Result<(), Cut> {
        while !body.is_over() {
            self.read_body(&mut body).await?;
            // The connection's end was the body's.
            if body.is_over() {
                self.write_end(carriage, 0)?;
                return self.write_out().await;
            }
            if let Err(cut) = self.take_pieces(&mut body, carriage) {
                // What came before the fault is good.
                self.write_out().await?;
                return Err(cut);
            }
            self.rest_input(carriage);
            self.write_out().await?;
        }
        Ok(())
    }

    /// Takes over what is at hand.
    fn take_pieces(&mut self, body: &mut BodyReader, carriage: Carriage) -> Result<(), Cut> {
        while !body.is_over() {
            match body.next(self.input.filled()).map_err(|_| Cut::Backend(AttemptEnd::Truncated))? {
                Piece::More => break,
                Piece::Framing(n) => self.input.consume(n),
                Piece::Data(n) => {
                    carriage.write_piece(&self.input.filled()[..n], &mut self.out);
                    self.input.consume(n);
                    self.terms.passed(n);
                }
                Piece::End(n) => {
                    self.write_end(carriage, n)?;
                    self.input.consume(n);
                }
            }
        }
        Ok(())
    }

    /// Takes back the beginning of an answer of which nothing has been written: the client gets one of ours instead.
    fn unsaid(&mut self) -> Cut {
        let progress = self.terms.progress;
        progress.status.set(None);
        progress.first_byte.set(None);
        progress.passed.set(0);
        self.out.clear();
        self.close_means_reset(false);
        Cut::Backend(AttemptEnd::Protocol)
    }

    fn write_end(&mut self, carriage: Carriage, trailers: usize) -> Result<(), Cut> {
        let section = &self.input.filled()[..trailers];
        let written = carriage.write_end(section, &mut self.out);
        written.map_err(|_| Cut::Backend(AttemptEnd::Truncated))
    }

    /// Many streams of one client can wait for their windows at once: then each holds what is to be written, and no second buffer.
    fn rest_input(&mut self, carriage: Carriage) {
        if carriage == Carriage::Frames {
            self.buffers.take_back(self.input);
        }
    }

    async fn read_body(&mut self, body: &mut BodyReader) -> Result<(), Cut> {
        self.buffers.lend(self.input);
        let read = self.waits.fill(
            Slow::BackendSends,
            self.backend_limit,
            &mut self.reader,
            self.input,
            BULK_BUFFER_BYTES,
        );
        match read.await {
            Ok(n) if n > 0 => Ok(()),
            Ok(_) if body.end_of_stream() => Ok(()),
            _ => Err(Cut::Backend(AttemptEnd::Truncated)),
        }
    }

    async fn write_out(&mut self) -> Result<(), Cut> {
        let written = self.waits.write_all(Slow::ClientTakes, self.client_limit, &mut self.writer, &self.out);
        written.await.map_err(|_| Cut::Client)?;
        self.out.clear();
        Ok(())
    }
}
