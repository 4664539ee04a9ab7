//! Writes field sections and frames as an exchange hands them to its stream.
//!
//! Owns their form on that short way: whole frames without a stream's number and without a bound on their size, which the connection
//! puts right ([`super::Stream::poll_write`]). Fields refer to the static table alone, so that what is written depends on nothing that was
//! written before: an exchange needs no turn at the connection for it, and a section may be dropped.

use super::{
    frame::{HEAD, flag, kind, write_head},
    huffman,
    table::static_index,
};

/// A field that is not to be put into anybody's table (RFC 7541 section 7.1.3).
const NEVER_INDEXED: u8 = 0x10;

/// Begins a field section. What is written next are its fields.
pub fn begin_headers(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    start
}

/// Ends the field section that began at `start`. `end_stream`: there is no body.
pub fn finish_headers(out: &mut [u8], start: usize, end_stream: bool) {
    let length = (out.len() - start - HEAD) as u32;
    out[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
    out[start + 3] = kind::HEADERS;
    out[start + 4] = flag::END_HEADERS | if end_stream { flag::END_STREAM } else { 0 };
}

/// Writes the head of a piece of payload, which must follow it.
pub fn write_data(out: &mut Vec<u8>, length: usize, end_stream: bool) {
    write_head(out, length, kind::DATA, if end_stream { flag::END_STREAM } else { 0 }, 0);
}

/// Writes `:status`.
pub fn write_status(out: &mut Vec<u8>, status: u16) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            out.extend_from_slice(&[8, 3]);
            out.extend_from_slice(&[
                b'0' + (status / 100 % 10) as u8,
                b'0' + (status / 10 % 10) as u8,
                b'0' + (status % 10) as u8,
            ]);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Writes a field. Its name comes in any case, and leaves in lower case (RFC 9113 section 8.2).
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let index = static_index(name);
    // What is secret: authorization, cookie, proxy-authorization, set-cookie.
    let first = if matches!(index, Some(23 | 32 | 49 | 55)) { NEVER_INDEXED } else { 0 };
    match index {
        Some(index) => write_integer(out, first, 4, index as usize),
        None => {
            out.push(0);
            write_integer(out, 0, 7, name.len());
            out.extend(name.iter().map(u8::to_ascii_lowercase));
        }
    }
    let coded = huffman::coded_len(value);
    if coded < value.len() {
        write_integer(out, 0x80, 7, coded);
        huffman::encode(value, out);
    } else {
        write_integer(out, 0, 7, value.len());
        out.extend_from_slice(value);
    }
}

/// RFC 7541 section 5.1, below the bits that `first` has set.
fn write_integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::decode::Decoder, *};

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in proptest::collection::vec(("[A-Za-z-]{1,200}|date|Content-Type|set-cookie", "[ -~]{0,300}"), 0..8),
            status in 100_u16..1000,
        ) {
            let mut out = Vec::new();
            let start = begin_headers(&mut out);
            write_status(&mut out, status);
            for (name, value) in &fields {
                write_field(&mut out, name.as_bytes(), value.as_bytes());
            }
            finish_headers(&mut out, start, true);
            let mut read = Vec::new();
            Decoder::default()
                .decode(&out[HEAD..], |entry| {
                    read.push((String::from_utf8_lossy(entry.name).into_owned(), String::from_utf8_lossy(entry.value).into_owned()));
                })
                .unwrap();
            let mut wanted = vec![(":status".to_owned(), status.to_string())];
            wanted.extend(fields.iter().map(|(name, value)| (name.to_lowercase(), value.clone())));
            prop_assert_eq!(read, wanted);
        }
    }
}
