//! Reads compressed field sections (RFC 7541).
//!
//! Owns the connection's table. A section that breaks the rules leaves the table unknown to both sides: the connection ends.

use super::{
    huffman,
    table::{Entry, Table},
};
use crate::{http1::Known, limits::HPACK_TABLE_BYTES};

/// A section that can't be read. There is no going on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// A connection's decoder.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: Table::new(HPACK_TABLE_BYTES), name: Vec::new(), value: Vec::new() }
    }
}

impl Decoder {
    /// Hands each field of a section to `take`.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut take: impl FnMut(Entry<'_>),
    ) -> Result<(), Unreadable> {
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                take(self.table.get(index).ok_or(Unreadable("an index that stands for nothing"))?);
            } else if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if !may_resize || size > HPACK_TABLE_BYTES {
                    return Err(Unreadable("a change of the table's size out of place or out of bounds"));
                }
                self.table.resize(size);
                continue;
            } else {
                let is_kept = first & 0x40 != 0;
                let index = integer(&mut block, if is_kept { 6 } else { 4 })?;
                self.name.clear();
                self.value.clear();
                let known = if index > 0 {
                    let entry =
                        self.table.get(index).ok_or(Unreadable("an index that stands for nothing"))?;
                    self.name.extend_from_slice(entry.name);
                    entry.known
                } else {
                    string(&mut block, &mut self.name)?;
                    Known::of(&self.name)
                };
                string(&mut block, &mut self.value)?;
                take(Entry { name: &self.name, value: &self.value, known });
                if is_kept {
                    self.table.insert(&self.name, &self.value, known);
                }
            }
            may_resize = false;
        }
        // What one large field needed is not kept for a connection's life.
        self.name.shrink_to(256);
        self.value.shrink_to(1024);
        Ok(())
    }
}

/// Section 5.1.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Unreadable> {
    let mask = (1 << prefix) - 1;
    let mut next = || {
        let (&byte, rest) = block.split_first().ok_or(Unreadable("a section that breaks off"))?;
        *block = rest;
        Ok(byte)
    };
    let first = usize::from(next()? & mask as u8);
    if first < mask {
        return Ok(first);
    }
    let mut value = first;
    // Four further bytes are more than any bound here allows.
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unreadable("a number beyond all bounds"))
}

/// Section 5.2.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Unreadable("a section that breaks off"))?;
    *block = rest;
    if is_coded {
        return huffman::decode(text, out).ok_or(Unreadable("a string that is not Huffman coded as it says"));
    }
    out.extend_from_slice(text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn decode(decoder: &mut Decoder, hex: &str) -> Result<String, Unreadable> {
        let mut text = String::new();
        decoder.decode(&bytes(hex), |entry| {
            text.push_str(&format!(
                "{}={};",
                String::from_utf8_lossy(entry.name),
                String::from_utf8_lossy(entry.value)
            ));
        })?;
        Ok(text)
    }

    #[test]
    fn the_examples_of_the_rfc_hold() {
        // RFC 7541 appendix C.4, one connection.
        let mut decoder = Decoder::default();
        let base = ":method=GET;:scheme=http;:path=/;:authority=www.example.com;";
        assert_eq!(decode(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff").unwrap(), base);
        let second = decode(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf").unwrap();
        assert_eq!(second, format!("{base}cache-control=no-cache;"));
        let third =
            decode(&mut decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf").unwrap();
        assert_eq!(
            third,
            ":method=GET;:scheme=https;:path=/index.html;:authority=www.example.com;custom-key=custom-value;"
        );
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for bad in [
            "80",           // index 0
            "be",           // an empty table's first entry
            "ff8080808001", // a number that does not end
            "40",           // no name
            "00 0161",      // no value
            "00 0561",      // a name that breaks off
            "3fe21f",       // a table of 4097 bytes
            "8220",         // a change of size after a field
            "00 81ff 00",   // padding of eight bits
        ] {
            assert!(decode(&mut Decoder::default(), bad).is_err(), "{bad}");
        }
        assert!(decode(&mut Decoder::default(), "20 3fe11f 82").is_ok());
    }

    proptest! {
        #[test]
        fn nonsense_is_no_panic(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..5)) {
            let mut decoder = Decoder::default();
            for block in blocks {
                if decoder.decode(&block, |_| {}).is_err() {
                    break;
                }
            }
        }
    }
}
