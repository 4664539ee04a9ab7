//! HAProxy's HTTP log (`option httplog`).
//!
//! Owns the order of fields in such a line: `… CLIENT:PORT [TIME] FRONTEND BACKEND/SERVER TIMERS STATUS BYTES … "REQUEST"`, behind whatever syslog
//! puts before it. Captured headers have no names there, so they are not used. Never allocates.

use memchr::{memchr, memchr_iter, memrchr};

use super::{
    Asked, Asking, Record, Stores,
    figures::{self, Escapes, plain},
};

const MILLISECOND: i64 = 1_000_000;

/// One line.
pub(super) fn read<'a>(line: &'a [u8], stores: &'a mut Stores) -> Result<Record<'a>, &'static str> {
    let (start, end) = accepted(line).ok_or("there is no [time] in it")?;
    let (before, time, rest) = (&line[..start], &line[start + 1..end], &line[end + 1..]);
    let open = memchr(b'"', rest).ok_or("there is no \"request\" in it")?;
    let request = &rest[open + 1..];
    let close = memrchr(b'"', request).ok_or("its \"request\" is cut off")?;
    let mut asking = Asking::default();
    asking.read_line(plain(&request[..close], Escapes::Hash, &mut stores.target))?;
    let client = before.trim_ascii_end().rsplit(|&b| b == b' ').next().unwrap_or_default();
    let port = memrchr(b':', client).ok_or("there is no client:port before its time")?;
    asking.client = figures::address(&client[..port]);

    let mut words = rest[..open].split(|&b| b == b' ').filter(|word| !word.is_empty());
    let timers = words.nth(2).unwrap_or_default();
    let whole = timers.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let whole = whole.strip_prefix(b"+").unwrap_or(whole);
    let status = words.next().and_then(figures::status);
    let bytes = words.next().map(|bytes| bytes.strip_prefix(b"+").unwrap_or(bytes)).and_then(figures::number);
    Ok(Record {
        asked: Asked::Request(asking),
        time,
        took: figures::duration(whole, MILLISECOND),
        bytes,
        status,
    })
}

/// Where the time stands: in the first brackets that hold a date. The process's number stands in some too.
fn accepted(line: &[u8]) -> Option<(usize, usize)> {
    let start = memchr_iter(b'[', line)
        .find(|&at| line.get(at + 3) == Some(&b'/') && line.get(at + 7) == Some(&b'/'))?;
    Some((start, start + memchr(b']', &line[start..])?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn haproxys_log_is_read_with_and_without_syslog() {
        let syslog = "Feb  6 12:14:14 localhost haproxy[14389]: ";
        let line = "10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/+109 200 +2750 - - ---- \
                    1/1/1/1/0 0/0 {1wt.eu} {} \"GET /index.html?a=#22 HTTP/1.1\"";
        for text in [line.to_owned(), format!("{syslog}{line}")] {
            let mut stores = Stores::default();
            let record = read(text.as_bytes(), &mut stores).unwrap();
            let Asked::Request(asking) = record.asked else { panic!() };
            assert_eq!(
                (asking.method, asking.path, asking.query),
                (&b"GET"[..], &b"/index.html"[..], Some(&b"a=\""[..]))
            );
            assert_eq!(asking.client, Some("10.0.1.2".parse().unwrap()));
            let told = (record.status, record.bytes, record.took);
            assert_eq!(told, (Some(200), Some(2750), Some(Duration::from_millis(109))));
            assert_eq!(record.at(), Some(1_233_922_454_655_000_000));
        }
    }

    #[test]
    fn requests_that_came_to_nothing_say_so() {
        let line = b"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] f f/<NOSRV> -1/-1/-1/-1/5 400 187 - - PR-- 1/1/0/0/0 0/0 \"<BADREQ>\"";
        assert_eq!(read(line, &mut Stores::default()), Err("there is no request in it"));
        assert_eq!(
            read(b"x [06/Feb/2009:12:14:14.655] \"GET /", &mut Stores::default()),
            Err("its \"request\" is cut off")
        );
    }
}
