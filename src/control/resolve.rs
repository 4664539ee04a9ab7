//! Host names to addresses, by the system's resolver.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::endpoint::Endpoint;

/// How long a look-up may take.
const LIMIT: Duration = Duration::from_secs(5);

/// All addresses of the name, in numerical order: the first one is the one that is used, and it must not change with
/// the order in which a name server happens to list them.
///
/// # Errors
/// Why there are none, in a sentence.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Arc<[Endpoint]>, String> {
    match tokio::time::timeout(LIMIT, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.collect();
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() {
                return Err("no addresses".into());
            }
            Ok(addresses.into_iter().map(Endpoint::Tcp).collect())
        }
    }
}
