//! The tables of field compression: the one that everybody knows (RFC 7541 appendix A), and the one that a connection builds up.
//!
//! Owns the size of the latter (section 4): a peer can't make it hold more than it was granted.

use std::collections::VecDeque;

use crate::http1::Known;

/// Fields that have a number from the beginning, which is one more than their place here.
#[rustfmt::skip]
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Bytes that an entry counts beside its name and value.
const OVERHEAD: usize = 32;

/// A field in a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) known: Known,
}

#[derive(Debug)]
struct Stored {
    /// Name and value in one.
    bytes: Box<[u8]>,
    name_len: usize,
    known: Known,
}

impl Stored {
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// What the fields of a connection so far can be referred to by.
#[derive(Debug)]
pub(super) struct Table {
    /// The latest first.
    entries: VecDeque<Stored>,
    size: usize,
    max_size: usize,
}

impl Table {
    /// An empty one of this size at most, in bytes as RFC 7541 section 4.1 counts them.
    pub(super) fn new(max_size: usize) -> Table {
        Table { entries: VecDeque::new(), size: 0, max_size }
    }

    /// The entry of this number.
    pub(super) fn get(&self, index: usize) -> Option<Entry<'_>> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            let known = known_of_static(index + 1);
            return Some(Entry { name: name.as_bytes(), value: value.as_bytes(), known });
        }
        let stored = self.entries.get(index - STATIC.len())?;
        let (name, value) = stored.bytes.split_at(stored.name_len);
        Some(Entry { name, value, known: stored.known })
    }

    /// Takes a field in, and pushes the oldest out.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], known: Known) {
        let size = name.len() + value.len() + OVERHEAD;
        if size > self.max_size {
            // Section 4.4: nothing is left, and that is no error.
            self.entries.clear();
            self.size = 0;
            return;
        }
        self.shrink_to(self.max_size - size);
        let bytes = [name, value].concat().into_boxed_slice();
        self.entries.push_front(Stored { bytes, name_len: name.len(), known });
        self.size += size;
    }

    /// Changes its greatest size.
    pub(super) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.shrink_to(max_size);
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size();
        }
    }
}

/// What the proxy knows the names of the static table by.
fn known_of_static(index: usize) -> Known {
    match index {
        28 => Known::ContentLength,
        33 => Known::Date,
        35 => Known::Expect,
        38 => Known::Host,
        47 => Known::MaxForwards,
        48 => Known::ProxyAuthenticate,
        49 => Known::ProxyAuthorization,
        57 => Known::TransferEncoding,
        60 => Known::Via,
        _ => Known::Other,
    }
}

/// Numbers of the static table by the length of their name, for those that an answer or a request can have.
const BY_LENGTH: [[u8; 8]; 32] = {
    let mut table = [[0; 8]; 32];
    let mut i = 0;
    while i < STATIC.len() {
        let name = STATIC[i].0.as_bytes();
        // A name that comes several times is taken at its first place.
        let is_first = i == 0 || !same(name, STATIC[i - 1].0.as_bytes());
        if is_first {
            let mut slot = 0;
            while table[name.len()][slot] != 0 {
                slot += 1;
            }
            table[name.len()][slot] = i as u8 + 1;
        }
        i += 1;
    }
    table
};

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// The number of a name in the static table, without regard to case.
pub(super) fn static_index(name: &[u8]) -> Option<u8> {
    let first = name.first()?.to_ascii_lowercase();
    BY_LENGTH.get(name.len())?.iter().copied().take_while(|&index| index > 0).find(|&index| {
        let entry = STATIC[index as usize - 1].0.as_bytes();
        entry[0] == first && name.eq_ignore_ascii_case(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_names_are_found_and_known() {
        for (i, (name, _)) in STATIC.iter().enumerate() {
            let found = static_index(name.to_ascii_uppercase().as_bytes()).unwrap();
            assert_eq!(STATIC[found as usize - 1].0, *name);
            assert!(found as usize <= i + 1);
            assert_eq!(known_of_static(i + 1), Known::of(name.as_bytes()), "{name}");
        }
        assert_eq!(static_index(b"x-request-id"), None);
        assert_eq!(static_index(b""), None);
        assert_eq!(static_index(&[b'a'; 300]), None);
    }

    #[test]
    fn the_table_never_outgrows_its_size() {
        let mut table = Table::new(100);
        table.insert(b"aaaa", b"bbbb", Known::Other);
        table.insert(b"cccc", b"dddd", Known::Other);
        assert_eq!(table.get(62).unwrap().name, b"cccc");
        assert_eq!(table.get(63).unwrap().value, b"bbbb");
        table.insert(b"e", b"f", Known::Other);
        assert_eq!(table.get(62).unwrap().name, b"e");
        assert!(table.get(64).is_none() && table.size <= 100);
        table.insert(&[b'x'; 90], b"", Known::Other);
        assert!(table.get(62).is_none() && table.size == 0);
        assert!(table.get(0).is_none());
    }
}
