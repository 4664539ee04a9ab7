//! What comes before a connection's first request: what a balancer says of its client, and the handshake of TLS.
//!
//! Owns its order and its bounds in time. Believes no balancer that is not listed. Reads nothing of a request, but to see that one came where TLS
//! was to begin.

use std::{io, net::IpAddr, rc::Rc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::{
    admission::Permit,
    connection::{linger, refuse_head},
    worker::House,
};
use crate::{
    http1::Version,
    io::{Secure, Stream},
    preface::{self, Preface},
    proxy::client_end::{ClientEnd, Told},
    tally::{HandshakeEnd, Refusal, Rejected},
    tls::{ListenerTls, PROOF, Proofs, subject_of},
};

/// What comes before the first request: the PROXY protocol, and the handshake of TLS. `None`: it did not come about.
pub(super) async fn introduce(
    house: &House,
    mut stream: Stream,
    mut peer: IpAddr,
    permit: &mut Permit,
) -> Option<ClientEnd> {
    let doorway = permit.doorway().clone();
    let mut told = Told::default();
    if doorway.begins_with_preface(peer) {
        match preface(house, &mut stream).await {
            None => {
                tracing::debug!(%peer, "a connection from a balancer does not begin with the PROXY protocol");
                permit.reject(Rejected::Preface);
                return None;
            }
            Some(Preface::Of(named)) => {
                peer = named.source.ip().to_canonical();
                told.ends = Some(named);
                permit.count_address(peer).ok()?;
            }
            Some(_) => {}
        }
    }
    if let Some(tls) = &doorway.tls {
        let begun = Instant::now();
        stream = match handshake(house, stream, peer, tls).await {
            Shaken::Session(session) => Stream::Secure(session),
            Shaken::Clear(stream, head_only) => {
                let told = (told != Told::default()).then(|| Rc::new(told));
                let mut client =
                    ClientEnd::new(Stream::Tcp(stream), peer, told, house.policy().idle_body_timeout);
                let asked = (Version::Http11, head_only);
                if refuse_head(house, &mut client, Refusal::NotSecure, begun, asked).await {
                    linger(&mut client).await;
                }
                return None;
            }
            Shaken::Nothing => return None,
        };
        told.subject = stream.peer_certificate().and_then(|certificate| subject_of(&certificate));
        told.hsts = doorway.policy.tls.as_ref().and_then(|tls| tls.hsts.clone());
    }
    let told = (told != Told::default()).then(|| Rc::new(told));
    Some(ClientEnd::new(stream, peer, told, house.policy().idle_body_timeout))
}

/// Reads what a balancer says about its client, and not a byte more. `None`: nothing that could be understood, or not in time.
async fn preface(house: &House, stream: &mut Stream) -> Option<Preface> {
    let mut bytes = Vec::new();
    let read = async {
        loop {
            match preface::read(&bytes) {
                Ok(Preface::More(missing)) => {
                    let had = bytes.len();
                    bytes.resize(had + missing, 0);
                    stream.read_exact(&mut bytes[had..]).await.ok()?;
                }
                Ok(whole) => return Some(whole),
                Err(error) => {
                    tracing::debug!(%error, "a connection is refused");
                    return None;
                }
            }
        }
    };
    let read = tokio::time::timeout(house.policy().request_head_timeout, read).await;
    read.ok().flatten()
}

/// What a handshake came to.
enum Shaken {
    Session(Box<Secure>),
    /// The client began to speak HTTP instead; it asks for no more than a head.
    Clear(TcpStream, bool),
    Nothing,
}

async fn handshake(house: &House, stream: Stream, peer: IpAddr, tls: &ListenerTls) -> Shaken {
    let Stream::Tcp(stream) = stream else { return Shaken::Nothing };
    let place = house.handshakes.enter();
    let shake = async {
        let mut begin = [0; 5];
        let length = stream.peek(&mut begin).await?;
        // No record of TLS begins with a letter, and every method does.
        if begin[..length].first().is_some_and(u8::is_ascii_uppercase) {
            return Ok(Shaken::Clear(stream, begin == *b"HEAD "));
        }
        let session = match tls.proofs() {
            None => TlsAcceptor::from(tls.config()).accept(stream).await,
            // On the heap: few listeners have an authority.
            Some(proofs) => Box::pin(shake_or_prove(stream, tls, proofs)).await,
        };
        session.map(|session| Shaken::Session(Box::new(Secure::new(session))))
    };
    let shake = tokio::time::timeout(tls.handshake_timeout(), shake);
    let shaken = tokio::select! {
        shaken = shake => shaken,
        () = place.lost() => {
            tls.count(HandshakeEnd::CrowdedOut);
            return Shaken::Nothing;
        }
    };
    let (end, shaken) = match shaken {
        Ok(Ok(Shaken::Session(session))) => (HandshakeEnd::Done, Shaken::Session(session)),
        Ok(Ok(other)) => (HandshakeEnd::Failed, other),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            (HandshakeEnd::Failed, Shaken::Nothing)
        }
        Err(_) => (HandshakeEnd::Timeout, Shaken::Nothing),
    };
    tls.count(end);
    shaken
}

/// A handshake with a client, or one that proves a name to an authority and carries nothing after that.
async fn shake_or_prove(
    stream: TcpStream,
    tls: &ListenerTls,
    proofs: &Proofs,
) -> io::Result<TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
    let proves = start.client_hello().alpn().into_iter().flatten().any(|protocol| protocol == PROOF);
    let mut session = start.into_stream(if proves { proofs.config() } else { tls.config() }).await?;
    if proves {
        session.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a name was proved"));
    }
    Ok(session)
}
