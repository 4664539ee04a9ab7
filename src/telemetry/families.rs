//! The table of all metrics: name, type, labels, meaning.
//!
//! Owns the names: the scrape can't give out one that does not stand here, and a test holds the README to the same table.

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in classic buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels. Their values come from the configuration and from closed lists, never from a request.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! families {
    ($($konst:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $konst: Family = Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them.
        pub const ALL: &[Family] = &[$($konst),*];
    };
}

families! {
    REQUESTS = "ringway_requests_total", Counter, ["pool", "backend", "class"],
        "Requests by how they ended for their client (2xx, truncated, cancelled, ...); backend is empty where the answer was Ringway's own, pool too where none was found.";
    DURATION = "ringway_request_duration_seconds", Histogram, ["pool"],
        "Time from a request's head to the last byte of its answer.";
    FIRST_BYTE = "ringway_request_first_byte_seconds", Histogram, ["pool"],
        "Time from a request's head to the head of its answer.";
    CONNECT = "ringway_upstream_connect_duration_seconds", Histogram, ["pool"],
        "Time to open a connection to a backend.";
    IN_FLIGHT = "ringway_requests_in_flight", Gauge, ["pool", "backend"],
        "Requests under way at a backend.";
    UPGRADED = "ringway_upgraded_connections", Gauge, ["pool", "backend"],
        "Connections open that have changed to another protocol, such as WebSocket.";
    UPGRADES = "ringway_upgrades_total", Counter, ["pool", "backend"],
        "Connections that changed to another protocol.";
    AFFINITY = "ringway_affinity_requests_total", Counter, ["pool", "reason"],
        "Requests that went to a backend, by why to that one: owner, or the reason why not to the owner of their key.";
    ATTEMPTS = "ringway_attempts_total", Counter, ["pool", "backend", "result"],
        "Attempts at a backend by how they ended.";
    REPEATS = "ringway_repeats_total", Counter, ["pool", "reason"],
        "Further attempts for a request, by how the one before ended.";
    REPEATS_DENIED = "ringway_repeats_denied_total", Counter, ["pool", "reason"],
        "Further attempts that the budget for repeats did not allow, by how the one before ended.";
    REFUSALS = "ringway_refusals_total", Counter, ["pool", "reason"],
        "Answers of Ringway's own, by the reason; pool is empty where none was found.";
    RECEIVED = "ringway_received_body_bytes_total", Counter, ["pool"],
        "Bytes of request bodies read from clients.";
    SENT = "ringway_sent_body_bytes_total", Counter, ["pool"],
        "Bytes of answer bodies handed on to clients.";
    CONNECTIONS_OPEN = "ringway_client_connections_open", Gauge, ["listener"],
        "Client connections open now.";
    CONNECTIONS_ACCEPTED = "ringway_client_connections_accepted_total", Counter, ["listener"],
        "Client connections accepted.";
    CONNECTIONS_REJECTED = "ringway_client_connections_rejected_total", Counter, ["listener", "reason"],
        "Client connections turned away.";
    TLS_HANDSHAKES = "ringway_tls_handshakes_total", Counter, ["listener", "result"],
        "TLS handshakes with clients, by how they ended.";
    TLS_RELOADS = "ringway_tls_reloads_total", Counter, ["listener", "result"],
        "Times that changed certificate files were taken in, or refused.";
    TLS_EXPIRY = "ringway_tls_certificate_expiry_timestamp_seconds", Gauge, ["listener", "certificate"],
        "When the certificate in force from this file ends.";
    HTTP2_CONNECTIONS = "ringway_http2_connections_total", Counter, [],
        "Client connections that spoke HTTP/2.";
    HTTP2_ENDED = "ringway_http2_connections_ended_total", Counter, ["reason"],
        "HTTP/2 connections that Ringway ended for a fault of the client, by the reason.";
    HTTP2_RESETS = "ringway_http2_streams_reset_total", Counter, [],
        "HTTP/2 streams that clients gave up, or that Ringway refused or ended for a fault of the client.";
    UPSTREAM_OPENED = "ringway_upstream_connections_opened_total", Counter, ["pool", "backend"],
        "Connections opened to a backend.";
    UPSTREAM_REUSED = "ringway_upstream_connections_reused_total", Counter, ["pool", "backend"],
        "Attempts on a connection that had carried one before.";
    UPSTREAM_CLOSED = "ringway_upstream_connections_closed_total", Counter, ["pool", "backend", "reason"],
        "Connections to a backend closed, by the reason.";
    BACKEND_SERVING = "ringway_backend_serving", Gauge, ["pool", "backend"],
        "1 if the backend takes requests, else 0.";
    FAILURES = "ringway_backend_failures_total", Counter, ["pool", "backend"],
        "Attempts that counted as failures of the backend.";
    EJECTED = "ringway_backend_ejected", Gauge, ["pool", "backend"],
        "1 while requests have a backend kept out or on trial, 0 otherwise.";
    DRAINED = "ringway_backend_drained", Gauge, ["pool", "backend"],
        "1 while a backend has the weight 0, by configuration or by an operator's order, 0 otherwise.";
    WAITING = "ringway_requests_waiting", Gauge, ["pool", "backend"],
        "Requests that wait until a backend has a place for them.";
    RAMP = "ringway_ramp_progress", Gauge, ["pool"],
        "The share of the keys that have moved since the pool's membership or weights changed, from 0 to 1; 1 while none are to move.";
    MOVED = "ringway_keyspace_moved_ratio_total", Counter, ["pool", "cause"],
        "Shares of the keys that changes moved from one backend to another, added up: 1 for each time that as many as all have moved.";
    AWAY = "ringway_keyspace_away_ratio", Gauge, ["pool"],
        "Share of the keys, from 0 to 1, that are not at the owner which the configuration gives them: it does not serve, is drained or has another weight, or has not been given them yet.";
    TRANSITIONS = "ringway_backend_transitions_total", Counter, ["pool", "backend"],
        "Times that the backend's standing changed.";
    PROBES = "ringway_probes_total", Counter, ["pool", "backend", "result"],
        "Health checks by their result.";
    PROBE_DURATION = "ringway_probe_duration_seconds", Histogram, ["pool", "backend"],
        "Time that health checks took.";
    VIRTUAL_NODES = "ringway_ring_virtual_nodes", Gauge, ["pool"],
        "Virtual nodes on the ring.";
    SHARE = "ringway_ring_share_ratio", Gauge, ["pool", "backend"],
        "Share of all keys that the backend owns, from 0 to 1.";
    IMBALANCE = "ringway_ring_imbalance_ratio", Gauge, ["pool"],
        "The largest share, relative to what the backend's weight asks for.";
    EXPECTED_IMBALANCE = "ringway_ring_expected_imbalance_ratio", Gauge, ["pool"],
        "What that is on average for rings of these weights and replicas.";
    FINGERPRINT = "ringway_ring_fingerprint", Gauge, ["pool"],
        "First 32 bits of the ring's fingerprint: proxies that differ here place keys differently.";
    SERVING_FINGERPRINT = "ringway_ring_serving_fingerprint", Gauge, ["pool"],
        "The same over the backends that are serving: proxies that differ here see different backends up.";
    REVISION = "ringway_view_revision", Gauge, [],
        "Revision of the view that requests read.";
    CONFIG_LOADS = "ringway_config_loads_total", Counter, ["result"],
        "Configurations read, by the result.";
    CONFIG_SUCCESSFUL = "ringway_config_last_load_successful", Gauge, [],
        "1 if the configuration that was read last is in force, 0 if it was refused and the one before stays.";
    CONFIG_LOADED = "ringway_config_last_load_success_timestamp_seconds", Gauge, [],
        "When the configuration in force was read.";
    TAKEOVERS = "ringway_takeovers_total", Counter, ["result"],
        "Takeovers by a new process: success in the process that has taken over, failure in the one that went on.";
    READY = "ringway_ready", Gauge, [],
        "1 while the process is ready for traffic, else 0.";
    ACCESS_DROPPED = "ringway_access_log_dropped_lines_total", Counter, [],
        "Access lines lost: too many waited for the writer, or they could not be written.";
    BUILD = "ringway_build_info", Gauge, ["version"],
        "Always 1.";
}
