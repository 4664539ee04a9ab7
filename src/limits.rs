//! Every bound of the program that is not a configuration key, as a named constant with its reason.
//!
//! Owns numbers only. What operators can set stands in [`crate::config`] with its default and its range.

use std::time::Duration;

/// Bytes of a connection's read buffer: a head with its cookies, or a small answer, in one piece.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes of the read buffer while a long body passes: fewer system calls, still inside the second-level cache.
pub const BULK_BUFFER_BYTES: usize = 64 * 1024;

/// The rest of a body of known length that is worth a pipe: below, copying costs no more than the calls around it.
pub const SPLICE_FROM: u64 = 32 * 1024;

/// Bytes that a pipe between two sockets holds at most, where the kernel grants them.
pub const PIPE_BYTES: usize = 256 * 1024;

/// Seconds whose requests count for the budget of repeats: enough for a pause of a few seconds, too few for a quiet hour to pay for a storm.
pub const REPEAT_BUDGET_SECONDS: usize = 10;

/// The longest wait before a request goes to the same backend again.
pub const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// Pipes of one worker, two descriptors each. Long bodies beyond that are copied.
pub const PIPES: usize = 64;

/// Buffers that a worker keeps for the next connection that needs one.
pub const SPARE_BUFFERS: usize = 256;

/// Bytes of an answer's head from a backend.
pub const ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// Header fields in one message, whatever the configuration says.
pub const HEADERS_MAX: usize = 1000;

/// Fields that `Connection` may name in one message. Each other field is compared with each of them.
pub const CONNECTION_OPTIONS: usize = 32;

/// Bytes of a request target (RFC 9112 section 3 recommends at least 8000).
pub const TARGET_BYTES: usize = 16 * 1024;

/// Bytes of a body whose length is told, or of one chunk: what readers with signed numbers take for one, too.
pub const LENGTH_MOST: u64 = i64::MAX as u64;

/// Bytes of one chunk-size line with its extensions (RFC 9112 section 7.1.1 asks for a bound).
pub const CHUNK_LINE_BYTES: usize = 1024;

/// Bytes of all chunk extensions of one message.
pub const CHUNK_EXTENSION_BYTES: usize = 16 * 1024;

/// Bytes of a trailer section.
pub const TRAILER_BYTES: usize = 16 * 1024;

/// Fields of a trailer section.
pub const TRAILER_FIELDS: usize = 64;

/// Interim (1xx) answers that a backend may send before the final one.
pub const INTERIM_ANSWERS: usize = 64;

/// How long a client whose request was answered before it was read in full is read from, so that the close does not
/// destroy the answer on its way (RFC 9112 section 9.6). Time is the bound, not bytes: a fast client sends many megabytes
/// before it sees the answer.
pub const LINGER: Duration = Duration::from_secs(2);

/// A connection that is idle while the proxy drains gets this long for a request that is already under way.
pub const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// Connections that other workers have accepted for a worker and that wait for it.
pub const HANDOVER_QUEUE: usize = 1024;

/// Connections that the kernel holds for us before they are accepted (capped by `net.core.somaxconn`).
pub const LISTEN_BACKLOG: u32 = 4096;

/// Bytes in a file of certificates or keys.
pub const CERTIFICATE_FILE_BYTES: u64 = 1024 * 1024;

/// How often the files of certificates are looked at. A change is taken in when two looks in a row see the same.
pub const CERTIFICATE_LOOK: Duration = Duration::from_millis(250);

/// How long one try for a certificate may take.
pub const ACME_TRY: Duration = Duration::from_secs(300);

/// The pause after a try that failed; it doubles with each further one, as authorities bound how often one may try.
pub const ACME_RETRY: Duration = Duration::from_secs(10);

/// And to that at most.
pub const ACME_RETRY_MOST: Duration = Duration::from_secs(3600);

/// TLS handshakes of one worker under way at one time; a further one pushes the oldest out. At a round trip of 100 ms, a flood of
/// less than 10 000 a second for each worker pushes out nobody who answers.
pub const HANDSHAKES: usize = 1024;

/// How long the last word of a TLS session may take to leave.
pub const TLS_GOODBYE: Duration = Duration::from_secs(1);

/// How often the configuration's file is looked at, where it is watched. A change is taken in when two looks in a row see the same.
pub const CONFIG_LOOK: Duration = Duration::from_secs(1);

/// How often a connection that has changed its protocol looks whether its key has another owner, where the pool wants to know.
pub const MOVE_LOOK: Duration = Duration::from_secs(1);

/// What people want of the control task, waiting for it.
pub const WISH_QUEUE: usize = 64;

/// How often the control task looks at what time alone changes: ejections that end, windows, ramps. It reads all backends' cells each
/// time, so it is not more often than people notice.
pub const CONTROL_TICK: Duration = Duration::from_millis(250);

/// The part of the process's descriptors that clients can't have, as a divisor.
pub const DESCRIPTORS_KEPT: u64 = 4;

/// Events waiting for the control task.
pub const EVENT_QUEUE: usize = 4096;

/// Probes under way at one time, over all pools.
pub const PROBES_IN_FLIGHT: usize = 256;

/// Bytes of a probe's answer that are looked at for `body_contains`.
pub const PROBE_BODY_BYTES: usize = 64 * 1024;

/// Proxies that are asked at one time whether they agree.
pub const AGREE_PROXIES: usize = 256;

/// Connections to the admin listener at one time: a quarter for those that stay and watch, the rest for scrapes, probes, and pages
/// that are being opened.
pub const ADMIN_CONNECTIONS: usize = 256;

/// Those that watch events at one time.
pub const EVENT_STREAMS: usize = 64;

/// Bytes that the kernel holds for one who watches events. It grants twice that.
pub const EVENT_SEND_BUFFER: usize = 64 * 1024;

/// Changes that are written at a time.
pub const EVENT_BATCH: usize = 64;

/// How long one who watches may hear nothing, so that both sides know that the other one is there.
pub const EVENT_HEARTBEAT: Duration = Duration::from_secs(15);

/// How long an admin client may take nothing of what is sent to it.
pub const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long a write to an admin client may have waited before the client has to make room for another, where there is none.
pub const ADMIN_ROOM: Duration = Duration::from_secs(1);

/// How long an admin client may take for the whole of an answer, however steadily it takes it. Those who watch events are let be.
pub const ADMIN_ANSWER: Duration = Duration::from_secs(60);

/// Changes that are remembered for those who watch.
pub const NEWS_KEPT: usize = 1024;

/// How often the live view takes a sample.
pub const LIVE_SAMPLE: Duration = Duration::from_secs(1);

/// Samples that the live view remembers: five minutes.
pub const LIVE_HISTORY: usize = 300;

/// How long an admin client may take for its request's head.
pub const ADMIN_HEAD: Duration = Duration::from_secs(5);

/// How long an admin client may take for its request's body.
pub const ADMIN_BODY: Duration = Duration::from_secs(5);

/// Bytes of the questions that one request of the admin API asks about keys.
pub const LOOKUP_BODY_BYTES: usize = 512 * 1024;

/// How many questions these can be: the thread that answers has others to answer, too.
pub const LOOKUP_QUESTIONS: usize = 10_000;

/// Bytes of the answers beyond which the rest is not answered.
pub const LOOKUP_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// How many such requests are answered at one time, from their bodies' first byte to their answers' last.
pub const LOOKUPS_AT_ONCE: usize = 8;

/// Bytes of a line that the command line reads as a question.
pub const LOOKUP_LINE_BYTES: usize = 64 * 1024;

/// How long the end of the process waits for answers to admin clients.
pub const ADMIN_GOODBYE: Duration = Duration::from_secs(1);

/// Bytes of a scrape that are written at a time: a page of a large fleet is never in memory as a whole.
pub const SCRAPE_PART: usize = 32 * 1024;

/// How often a worker looks through its idle upstream connections.
pub const SWEEP: Duration = Duration::from_secs(1);

/// Requests that a worker begins before it looks again for answers that have come.
pub const REQUESTS_AT_ONCE: usize = 16;

/// Lines of the program's own log that may wait for their writer.
pub const LOG_QUEUE_LINES: usize = 8192;

/// Bytes of access lines that a worker collects before it hands them to the writer.
pub const ACCESS_BATCH_BYTES: usize = 32 * 1024;

/// How long fewer lines wait.
pub const ACCESS_BATCH_TIME: Duration = Duration::from_millis(100);

/// How long the end of the process waits for lines that nobody takes.
pub const ACCESS_FINISH: Duration = Duration::from_secs(2);

/// Bytes of a path, header value or key in an access log line; longer ones are cut.
pub const LOG_FIELD_BYTES: usize = 2048;

/// Bytes of the table that a peer's field compression may refer to, which everybody must grant (RFC 9113 section 6.5.2).
pub const HPACK_TABLE_BYTES: usize = 4096;

/// Streams that a client may have open on one HTTP/2 connection: what RFC 9113 section 6.5.2 calls the least that should be.
pub const HTTP2_STREAMS: u32 = 128;

/// Bytes that a peer may send on one stream before they are taken: enough for 25 MB/s over 10 ms.
pub const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// The same for a connection: the bound on what the streams of one client can have waiting here.
pub const HTTP2_CONNECTION_WINDOW: u32 = 512 * 1024;

/// Streams on one HTTP/2 connection to a backend, if it allows so many: with more to do, a further connection is opened.
pub const BACKEND_STREAMS: u32 = 100;

/// How long a backend may take nothing on a connection of HTTP/2 before the connection is given up.
pub const BACKEND_STALL: Duration = Duration::from_secs(60);

/// Bytes that a backend may send on one stream before the client has taken them.
pub const BACKEND_STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes that wait to be written to one HTTP/2 connection before its streams wait.
pub const HTTP2_OUTPUT_BYTES: usize = 64 * 1024;

/// Bytes that wait to be written before nothing more is read, so that nobody can have us collect answers to his control frames.
pub const HTTP2_OUTPUT_MOST: usize = 256 * 1024;

/// `CONTINUATION` frames of one field section.
pub const HTTP2_CONTINUATIONS: u32 = 16;

/// How many frames of a kind that costs us and moves nothing a peer may send at once, and how many more each second.
pub const HTTP2_PATIENCE: (u32, u32) = (1000, 100);

/// How many streams a peer may give up, or lose by its own fault, at once, and how many more each second. A browser that leaves a page
/// gives up some hundred.
pub const HTTP2_RESETS: (u32, u32) = (500, 50);

/// `WINDOW_UPDATE` frames that a peer may send at once, and how many more each second, beside some for each frame of payload that it
/// gets and for each stream.
pub const HTTP2_WINDOW_UPDATES: (u32, u32) = (4000, 400);

/// How long a new process may take until it is ready to take over: its backends are probed, and may be many and slow.
pub const TAKEOVER_READY: Duration = Duration::from_secs(60);

/// How long either side may take for a word that needs no work.
pub const TAKEOVER_ANSWER: Duration = Duration::from_secs(10);

/// How long whoever asked for a takeover waits: longer than any may take.
pub const TAKEOVER: Duration = Duration::from_secs(120);

/// How often the process that waits looks whether it is to stop instead.
pub const TAKEOVER_LOOK: Duration = Duration::from_millis(50);

/// Bytes of a line between the two: an error is a configuration's whole list of them.
pub const TAKEOVER_LINE_BYTES: usize = 256 * 1024;

/// Bytes of a log that are read at a time.
pub const LOG_BLOCK_BYTES: usize = 1024 * 1024;

/// Bytes of a line of a log. A longer one is not understood: it holds no target that we would take.
pub const LOG_LINE_BYTES: usize = 64 * 1024;

/// Lines that tell which format a log has.
pub const LOG_FIRST_LINES: usize = 64;

/// Lines of a log that were not understood and are shown.
pub const BAD_LINES_SHOWN: usize = 3;

/// And how much of each.
pub const BAD_LINE_SHOWN_BYTES: usize = 120;

/// Tables within each other, in a line of JSON.
pub const LOG_JSON_DEPTH: usize = 32;

/// Different keys that are counted exactly: 16 bytes for each, at most half of the slots used. Of more, a sample is kept.
pub const EXACT_KEYS: usize = 1 << 21;

/// Pairs of backends between which keys move, as told for a pool.
pub const MOVES_TOLD: usize = 1000;

/// Notes about a comparison.
pub const NOTES_TOLD: usize = 100;

/// Pools in a drawing of what moves.
pub const DRAWN_POOLS: usize = 6;

/// Backends in the legend of a drawing.
pub const DRAWN_BACKENDS: usize = 26;

/// Rows of a table that are shown to people. The whole is in the JSON.
pub const ROWS_SHOWN: usize = 30;

/// Bytes of a configuration that the admin listener is asked to compare.
pub const PLAN_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long it may take to come.
pub const PLAN_BODY: Duration = Duration::from_secs(10);

/// How many of them are taken in or compared at once.
pub const PLANS_AT_ONCE: usize = 2;

/// Virtual nodes of all pools of such a configuration: half a second and a hundred megabytes, which whoever may only read can cost us.
pub const PLAN_NODES: u64 = 2 * 1024 * 1024;

/// Counters for heavy keys of a pool: a key that has more than the thousandth part of the requests is not missed.
pub const HEAVY_KEYS: usize = 1024;

/// Bytes of a heavy key that are kept to show it.
pub const HEAVY_KEY_BYTES: usize = 128;

/// Cells of a replay's grid: each plays the whole trace.
pub const REPLAY_CELLS: usize = 256;

/// Virtual nodes of all rings of a replay, those of its events too: about a gigabyte.
pub const REPLAY_NODES: u64 = 64 * 1024 * 1024;

/// Objects in all caches of a replay: about three gigabytes.
pub const REPLAY_CACHED: u64 = 64 * 1024 * 1024;

/// Requests in flight in one cell of a replay: with more, the pool never keeps up.
pub const REPLAY_IN_FLIGHT: usize = 1024 * 1024;

/// Windows of time in which load is counted. With more, each two become one.
pub const REPLAY_WINDOWS: usize = 512;

/// Events in a replay.
pub const REPLAY_EVENTS: usize = 64;

/// Requests of a trace that are passed on together.
pub const REPLAY_BATCH: usize = 4096;

/// Such pieces that wait for one thread.
pub const REPLAY_BATCHES: usize = 4;

/// How far back times in a log may go without being told, in seconds: lines are written when answers end, by several threads.
pub const REPLAY_BACK_SECONDS: u64 = 60;

/// Stretches of a log that are remembered, because its times may come back to them.
pub const REPLAY_STRETCHES: usize = 16;

/// Recorded requests of one time that are spread over what it stands for.
pub const REPLAY_GROUP: usize = 1024 * 1024;

/// Different keys of a trace that is made up.
pub const REPLAY_KEYS: u32 = 10_000_000;
