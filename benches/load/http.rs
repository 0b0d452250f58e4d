//! A connection that writes a request and reads its answer, and knows of HTTP/1.1 no more than that takes: a client
//! that does more would use the processor that the servers are measured on.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer here is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// Status and body of the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> std::io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "closed, or the answer is too long"));
            }
            filled += count;
            let Some(head) = Head::read(&self.buffer[..filled])? else { continue };
            if filled >= head.bytes + head.body_bytes {
                return Ok((head.status, &self.buffer[head.bytes..head.bytes + head.body_bytes]));
            }
        }
    }
}

struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

impl Head {
    /// The head, once it is there as a whole.
    fn read(received: &[u8]) -> std::io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let invalid = || Error::new(ErrorKind::InvalidData, "not an answer of HTTP/1.1 with a length");
        let text = std::str::from_utf8(&received[..end]).map_err(|_| invalid())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).ok_or_else(invalid)?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok(Some(Self { status, bytes: end + 4, body_bytes: length.ok_or_else(invalid)? }))
    }
}
