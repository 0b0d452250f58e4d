//! All rows of a store in one file that any engine can write and read: for bases (see `base`), backups and moving to
//! another engine. docs/store-format.md describes it for other programs.
//!
//! A running store is exported while it changes, so that rows may be newer than the sequence that the export begins
//! from. Replaying the journal from the sequence after that makes it exact for every sequence from `until` on.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::time::Timestamp;
use crate::storage::request::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::storage::{Row, StoreError, Versioned};

/// The format's version that is written. Readers accept this one.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"TGEXPORT";
const HEADER_BYTES: usize = 40;
const BLOCK_MAGIC: &[u8; 4] = b"ROWS";
const BLOCK_HEADER_BYTES: usize = 24;
const END_MAGIC: &[u8; 4] = b"END.";
/// Magic, zero, `until`, rows.
const END_FIXED_BYTES: usize = 24;
const DIGEST_BYTES: usize = 32;
const ROW_FIXED_BYTES: usize = 16;
/// A block is written when it has this many bytes of rows.
const BLOCK_BYTES: usize = 256 << 10;
/// No block has more: the last row of one may be as large as a row can be.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + ROW_FIXED_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// How an export begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    /// Sequence up to which everything is in it.
    pub from: u64,
    /// When it was begun.
    pub made_at: Timestamp,
}

/// What a whole export turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportSummary {
    /// How it begins.
    pub header: ExportHeader,
    /// Sequence up to which it may have changes. With the journal after `header.from` replayed, every state from this
    /// sequence on is exact; if it equals `header.from`, the export itself is.
    pub until: u64,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file but its last 32 bytes, which hold it.
    pub sha256: [u8; DIGEST_BYTES],
}

/// Writes an export, rows in the order of their keys.
pub struct ExportWriter<W> {
    sink: W,
    header: ExportHeader,
    digest: Sha256,
    block: Vec<u8>,
    block_rows: u32,
    rows: u64,
    bytes: u64,
    last_key: Vec<u8>,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export that has everything up to sequence `from`.
    ///
    /// # Errors
    /// What `sink` says.
    pub fn new(sink: W, header: ExportHeader) -> io::Result<Self> {
        let (digest, block, last_key) = (Sha256::new(), Vec::new(), Vec::new());
        let mut writer = Self { sink, header, digest, block, block_rows: 0, rows: 0, bytes: 0, last_key };
        writer.put(&encode_header(header))?;
        Ok(writer)
    }

    /// Adds a row; its key must be greater than the one before it.
    ///
    /// # Errors
    /// What the sink says; `InvalidInput` for a key out of order.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        if row.key <= self.last_key {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "rows are exported in the order of their keys"));
        }
        self.last_key.clone_from(&row.key);
        self.block.extend_from_slice(&length_of(row.key.len()).to_le_bytes());
        self.block.extend_from_slice(&length_of(row.versioned.value.len()).to_le_bytes());
        self.block.extend_from_slice(&row.versioned.revision.to_le_bytes());
        self.block.extend_from_slice(&row.key);
        self.block.extend_from_slice(&row.versioned.value);
        self.block_rows += 1;
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Ends the export; `until` is the last sequence that can have changed a row while it was written. Returns what was
    /// written and the sink, which the caller syncs.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self, until: u64) -> io::Result<(ExportSummary, W)> {
        self.end_block()?;
        let mut end = [0; END_FIXED_BYTES];
        end[..4].copy_from_slice(END_MAGIC);
        end[8..16].copy_from_slice(&until.to_le_bytes());
        end[16..].copy_from_slice(&self.rows.to_le_bytes());
        self.put(&end)?;
        let sha256: [u8; DIGEST_BYTES] = self.digest.finalize().into();
        self.sink.write_all(&sha256)?;
        self.sink.flush()?;
        let bytes = self.bytes + DIGEST_BYTES as u64;
        Ok((ExportSummary { header: self.header, until, rows: self.rows, bytes, sha256 }, self.sink))
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block_rows == 0 {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let header = encode_block_header(&block, self.block_rows);
        self.put(&header)?;
        self.put(&block)?;
        self.block = block;
        self.block.clear();
        self.block_rows = 0;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.sink.write_all(bytes)
    }
}

/// Reads an export. Whoever has read it to its end knows that it is whole and is what was written.
pub struct ExportReader<R> {
    source: R,
    name: String,
    header: ExportHeader,
    digest: Sha256,
    offset: u64,
    block: Vec<u8>,
    /// Where the next row begins in `block`.
    position: usize,
    rows_left: u32,
    rows: u64,
    last_key: Vec<u8>,
    summary: Option<ExportSummary>,
}

impl ExportReader<BufReader<File>> {
    /// Opens an export in a file.
    ///
    /// # Errors
    /// As for [`ExportReader::new`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        Self::new(BufReader::new(file), name)
    }
}

impl<R: Read> ExportReader<R> {
    /// Reads an export's header from `source`, which is called `name` in messages.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it can't be read, [`StoreError::Corrupt`] when it is no export, is damaged, or is of a
    /// newer version.
    pub fn new(source: R, name: impl Into<String>) -> Result<Self, StoreError> {
        let header = ExportHeader { from: 0, made_at: Timestamp::default() };
        let mut reader = Self {
            source,
            name: name.into(),
            header,
            digest: Sha256::new(),
            offset: 0,
            block: Vec::new(),
            position: 0,
            rows_left: 0,
            rows: 0,
            last_key: Vec::new(),
            summary: None,
        };
        let mut bytes = [0; HEADER_BYTES];
        reader.take(&mut bytes)?;
        reader.header = reader.decode_header(&bytes)?;
        Ok(reader)
    }

    /// How it begins.
    pub fn header(&self) -> ExportHeader {
        self.header
    }

    /// Bytes that were read so far, as far as whole blocks go.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What the whole export is, once [`ExportReader::next_row`] has returned `None`.
    pub fn summary(&self) -> Option<ExportSummary> {
        self.summary
    }

    /// The next row; `None` behind the last, when the checksum of the whole has been found right, too.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it can't be read, [`StoreError::Corrupt`], with the name and the offset, when it is cut
    /// off or damaged.
    pub fn next_row(&mut self) -> Result<Option<Row>, StoreError> {
        while self.rows_left == 0 {
            if self.summary.is_some() || !self.next_block()? {
                return Ok(None);
            }
        }
        let row = self.parse_row().ok_or_else(|| self.damaged("a row is longer than its block"))?;
        self.rows_left -= 1;
        if self.rows_left == 0 && self.position != self.block.len() {
            return Err(self.damaged("a block has more than its rows"));
        }
        if row.key <= self.last_key {
            return Err(self.damaged("the rows are not in the order of their keys"));
        }
        self.rows += 1;
        self.last_key.clone_from(&row.key);
        Ok(Some(row))
    }

    /// Reads what is left, and answers what the whole is.
    ///
    /// # Errors
    /// As for [`ExportReader::next_row`].
    pub fn verify(mut self) -> Result<ExportSummary, StoreError> {
        while self.next_row()?.is_some() {}
        self.summary.ok_or_else(|| self.damaged("it has no end"))
    }

    /// Reads the next block; false when there is none, but the end.
    fn next_block(&mut self) -> Result<bool, StoreError> {
        let mut header = [0; BLOCK_HEADER_BYTES];
        self.take(&mut header)?;
        if &header[..4] == END_MAGIC {
            self.end(&header)?;
            return Ok(false);
        }
        let payload_bytes = u32_at(&header, 4).and_then(|bytes| usize::try_from(bytes).ok());
        let payload_bytes = payload_bytes.filter(|bytes| &header[..4] == BLOCK_MAGIC && *bytes <= BLOCK_BYTES_MAX);
        let Some(payload_bytes) = payload_bytes else {
            return Err(self.damaged("there is neither a block of rows nor the end"));
        };
        let mut block = std::mem::take(&mut self.block);
        block.resize(payload_bytes, 0);
        self.take(&mut block)?;
        let rows = u32_at(&header, 8).unwrap_or(0);
        if rows == 0 || encode_block_header(&block, rows) != header {
            return Err(self.damaged("a block's checksum is not right"));
        }
        (self.block, self.position, self.rows_left) = (block, 0, rows);
        Ok(true)
    }

    fn parse_row(&mut self) -> Option<Row> {
        let rest = self.block.get(self.position..)?;
        let key_bytes = usize::try_from(u32_at(rest, 0)?).ok()?;
        let value_bytes = usize::try_from(u32_at(rest, 4)?).ok()?;
        let revision = u64_at(rest, 8)?;
        let value_start = ROW_FIXED_BYTES.checked_add(key_bytes)?;
        let end = value_start.checked_add(value_bytes)?;
        let (key, value) = (rest.get(ROW_FIXED_BYTES..value_start)?.to_vec(), Arc::from(rest.get(value_start..end)?));
        self.position += end;
        Some(Row { key, versioned: Versioned { revision, value } })
    }

    fn end(&mut self, end: &[u8; END_FIXED_BYTES]) -> Result<(), StoreError> {
        let sha256: [u8; DIGEST_BYTES] = self.digest.clone().finalize().into();
        let (until, rows) = (u64_at(end, 8).unwrap_or(0), u64_at(end, 16).unwrap_or(0));
        let mut stored = [0; DIGEST_BYTES];
        self.take(&mut stored)?;
        if stored != sha256 {
            return Err(self.damaged("the checksum of the whole is not right"));
        }
        if rows != self.rows || until < self.header.from {
            return Err(self.damaged("the end does not say what is before it"));
        }
        if self.source.read(&mut [0]).map_err(|error| unreadable(&self.name, &error))? > 0 {
            return Err(self.damaged("there is something behind the end"));
        }
        self.summary = Some(ExportSummary { header: self.header, until, rows, bytes: self.offset, sha256 });
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it is cut off"),
            _ => unreadable(&self.name, &error),
        })?;
        self.digest.update(&*bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn decode_header(&self, bytes: &[u8; HEADER_BYTES]) -> Result<ExportHeader, StoreError> {
        if &bytes[..8] != MAGIC {
            return Err(self.damaged("it is not an export of a store"));
        }
        let version = u32_at(bytes, 8).unwrap_or(0);
        if version > VERSION {
            return Err(StoreError::Corrupt(format!(
                "the export {} has format {version}, this program reads formats up to {VERSION}: use the program that \
                 wrote it, or a newer one",
                self.name
            )));
        }
        let from = u64_at(bytes, 16).unwrap_or(0);
        let unix_ms = u64_at(bytes, 24).and_then(|unix_ms| i64::try_from(unix_ms).ok()).unwrap_or(0);
        let header = ExportHeader { from, made_at: Timestamp::from_unix_ms(unix_ms) };
        if encode_header(header) != *bytes {
            return Err(self.damaged("its header is not right"));
        }
        Ok(header)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Corrupt(format!(
            "the export {} is damaged near byte {}: {what}. Take another export or backup",
            self.name, self.offset
        ))
    }
}

fn encode_header(header: ExportHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&header.from.to_le_bytes());
    bytes[24..32].copy_from_slice(&u64::try_from(header.made_at.unix_ms()).unwrap_or(0).to_le_bytes());
    let checksum = xxh3_64(&bytes[..32]);
    bytes[32..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn encode_block_header(block: &[u8], rows: u32) -> [u8; BLOCK_HEADER_BYTES] {
    let mut header = [0; BLOCK_HEADER_BYTES];
    header[..4].copy_from_slice(BLOCK_MAGIC);
    header[4..8].copy_from_slice(&length_of(block.len()).to_le_bytes());
    header[8..12].copy_from_slice(&rows.to_le_bytes());
    header[16..].copy_from_slice(&xxh3_64(block).to_le_bytes());
    header
}

/// Keys, values and blocks are far from 4 GiB.
fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

fn unreadable(name: &str, error: &io::Error) -> StoreError {
    StoreError::Io { context: format!("reading the export {name}"), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: ExportHeader = ExportHeader { from: 41, made_at: Timestamp::from_unix_ms(1_737_715_200_123) };

    fn row(number: usize, value_bytes: usize) -> Row {
        let value = Arc::from(vec![number as u8; value_bytes]);
        Row {
            key: format!("key/{number:06}").into_bytes(),
            versioned: Versioned { revision: number as u64 + 1, value },
        }
    }

    fn export(rows: &[Row]) -> (ExportSummary, Vec<u8>) {
        let mut writer = ExportWriter::new(Vec::new(), HEADER).unwrap();
        rows.iter().for_each(|row| writer.row(row).unwrap());
        writer.finish(57).unwrap()
    }

    fn reader(bytes: &[u8]) -> Result<ExportReader<&[u8]>, StoreError> {
        ExportReader::new(bytes, "x.tgx")
    }

    #[test]
    fn rows_come_back_in_order_over_many_blocks() {
        let mut rows: Vec<Row> = (0..3_000).map(|number| row(number, 300)).collect();
        rows.push(row(3_000, 0));
        rows.push(row(3_001, VALUE_BYTES_MAX));
        let (written, bytes) = export(&rows);
        let mut reader = reader(&bytes).unwrap();
        assert_eq!(reader.header(), HEADER);
        let mut read = Vec::new();
        while let Some(row) = reader.next_row().unwrap() {
            assert_eq!(reader.summary(), None, "nothing is promised before the end");
            read.push(row);
        }
        assert!(read == rows);
        assert_eq!(reader.next_row().unwrap(), None);
        assert_eq!(reader.summary(), Some(written));
        assert_eq!((written.until, written.rows, written.bytes), (57, 3_002, bytes.len() as u64));
    }

    #[test]
    fn an_empty_store_can_be_exported() {
        let (written, bytes) = export(&[]);
        assert_eq!(reader(&bytes).unwrap().verify().unwrap(), written);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (_, good) = export(&[row(1, 20), row(2, 0)]);
        let verify = |bytes: &[u8]| reader(bytes).and_then(ExportReader::verify);
        for position in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[position / 8] ^= 1 << (position % 8);
            assert!(matches!(verify(&bad), Err(StoreError::Corrupt(_))), "bit {position}");
        }
        for length in 0..good.len() {
            assert!(matches!(verify(&good[..length]), Err(StoreError::Corrupt(_))), "cut to {length}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert!(verify(&longer).is_err());
    }

    #[test]
    fn a_newer_format_is_refused_with_what_to_do() {
        let (_, mut bytes) = export(&[]);
        bytes[8] = 2;
        let Err(StoreError::Corrupt(message)) = reader(&bytes).map(|_| ()) else { panic!("it was read") };
        assert!(message.contains("x.tgx") && message.contains("format 2") && message.contains("newer"), "{message}");
    }

    #[test]
    fn rows_out_of_order_are_not_written() {
        let mut writer = ExportWriter::new(Vec::new(), HEADER).unwrap();
        writer.row(&row(2, 1)).unwrap();
        assert!(writer.row(&row(2, 1)).is_err());
        assert!(writer.row(&row(1, 1)).is_err());
    }
}
