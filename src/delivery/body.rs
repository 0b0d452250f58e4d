//! The beginning of a receiver's answer, unpacked. What it unpacks to counts, so that a small body which grows without end
//! costs nothing.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;

/// Bytes of a compressed body that are looked at, however little they unpack to.
const PACKED_MAX_BYTES: usize = 1024 * 1024;

/// Takes a body chunk by chunk and keeps its beginning.
pub(super) struct Excerpt {
    unpacking: Unpacking,
    packed: usize,
    bytes_max: usize,
}

enum Unpacking {
    Plain(Kept),
    Gzip(MultiGzDecoder<Kept>),
    /// It was not what its headers say.
    Failed(Vec<u8>),
}

/// Bytes up to a bound; more is an error, so that unpacking ends.
struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.bytes_max - self.bytes.len();
        if room == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let fitting = &bytes[..bytes.len().min(room)];
        self.bytes.extend_from_slice(fitting);
        Ok(fitting.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Excerpt {
    /// Of an answer with these headers keeps up to `bytes_max`.
    pub(super) fn new(headers: &HeaderMap, bytes_max: usize) -> Self {
        let kept = Kept { bytes: Vec::new(), bytes_max };
        let is_gzip = headers.get(CONTENT_ENCODING).is_some_and(|encoding| {
            let encoding = encoding.as_bytes();
            encoding.eq_ignore_ascii_case(b"gzip") || encoding.eq_ignore_ascii_case(b"x-gzip")
        });
        let unpacking = if is_gzip { Unpacking::Gzip(MultiGzDecoder::new(kept)) } else { Unpacking::Plain(kept) };
        Self { unpacking, packed: 0, bytes_max }
    }

    /// Takes the next chunk. Returns whether more is wanted.
    pub(super) fn take(&mut self, chunk: &[u8]) -> bool {
        self.packed = self.packed.saturating_add(chunk.len());
        let taken = match &mut self.unpacking {
            Unpacking::Plain(kept) => kept.write_all(chunk),
            Unpacking::Gzip(decoder) => decoder.write_all(chunk),
            Unpacking::Failed(_) => return false,
        };
        if taken.is_err() {
            let bytes = self.kept_so_far();
            self.unpacking = Unpacking::Failed(bytes);
            return false;
        }
        !self.is_full() && self.packed < PACKED_MAX_BYTES
    }

    /// Whether as much is kept as may be.
    pub(super) fn is_full(&self) -> bool {
        match &self.unpacking {
            Unpacking::Plain(kept) => kept.bytes.len() >= kept.bytes_max,
            Unpacking::Gzip(decoder) => decoder.get_ref().bytes.len() >= decoder.get_ref().bytes_max,
            Unpacking::Failed(_) => true,
        }
    }

    /// What was kept, as text; bytes that are not UTF-8 are replaced, and what is longer by that is cut again.
    pub(super) fn into_text(mut self) -> String {
        if let Unpacking::Gzip(decoder) = &mut self.unpacking {
            // What it still holds back; a body that was cut has no end to find.
            let _ = decoder.flush();
        }
        let mut text = text_of(&self.kept_so_far());
        let end = (0..=self.bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text
    }

    fn kept_so_far(&mut self) -> Vec<u8> {
        match &mut self.unpacking {
            Unpacking::Plain(kept) => std::mem::take(&mut kept.bytes),
            Unpacking::Gzip(decoder) => std::mem::take(&mut decoder.get_mut().bytes),
            Unpacking::Failed(bytes) => std::mem::take(bytes),
        }
    }
}

/// The text of a body that may have been cut inside a character.
fn text_of(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() => String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip_headers() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().unwrap())])
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_text_cut_inside_a_character_loses_only_that_character() {
        assert_eq!(text_of("aé".as_bytes()), "aé");
        assert_eq!(text_of(&"aé".as_bytes()[..2]), "a");
        assert_eq!(text_of(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn a_plain_body_is_kept_up_to_the_bound() {
        let mut excerpt = Excerpt::new(&HeaderMap::new(), 5);
        assert!(excerpt.take(b"abc"));
        assert!(!excerpt.take(b"defg"));
        assert!(!excerpt.take(b"more"));
        assert_eq!(excerpt.into_text(), "abcde");
        let mut nothing = Excerpt::new(&HeaderMap::new(), 0);
        assert!(nothing.is_full());
        assert!(!nothing.take(b"a"));
        assert_eq!(nothing.into_text(), "");
    }

    #[test]
    fn a_body_that_is_no_text_is_kept_up_to_the_bound_too() {
        let mut excerpt = Excerpt::new(&HeaderMap::new(), 7);
        excerpt.take(&[0xff; 20]);
        assert_eq!(excerpt.into_text(), "\u{fffd}\u{fffd}", "three bytes each");
        let mut excerpt = Excerpt::new(&gzip_headers(), 7);
        excerpt.take(&packed(&[0xff; 20]));
        assert_eq!(excerpt.into_text(), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_packed_body_is_unpacked_however_it_is_cut_into_chunks() {
        let text = "receipt 17, thank you. ".repeat(20);
        for size in [1, 7, 1_000] {
            let mut excerpt = Excerpt::new(&gzip_headers(), 16_384);
            for chunk in packed(text.as_bytes()).chunks(size) {
                excerpt.take(chunk);
            }
            assert_eq!(excerpt.into_text(), text, "chunks of {size}");
        }
    }

    #[test]
    fn a_packed_body_that_unpacks_to_nothing_for_ever_is_given_up() {
        let mut excerpt = Excerpt::new(&gzip_headers(), 16_384);
        let empty = packed(b"");
        let chunks = (0..PACKED_MAX_BYTES).take_while(|_| excerpt.take(&empty)).count();
        assert!(chunks < PACKED_MAX_BYTES / empty.len() + 1, "{chunks}");
        assert_eq!(excerpt.into_text(), "");
    }

    #[test]
    fn what_is_not_packed_as_it_says_keeps_nothing() {
        let mut excerpt = Excerpt::new(&gzip_headers(), 16_384);
        assert!(!excerpt.take(b"not gzip at all"));
        assert_eq!(excerpt.into_text(), "");
    }
}
