//! A name server for tests, over UDP, that says what the test says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What is said about a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// It has these addresses, for so many seconds; those of the kind asked for are told.
    Has(Vec<IpAddr>, u32),
    /// There is no such name.
    NoSuchName,
    /// The server has failed.
    Fails,
    /// Nothing is said.
    Nothing,
}

/// [`Says::Has`] with addresses as text.
pub(crate) fn has(addresses: &[&str], ttl_s: u32) -> Says {
    Says::Has(addresses.iter().map(|address| address.parse().unwrap()).collect(), ttl_s)
}

/// Kinds of questions.
pub(crate) const A: u16 = 1;
/// For IPv6 addresses.
pub(crate) const AAAA: u16 = 28;

type Script = Arc<dyn Fn(&str, u16) -> Says + Send + Sync>;

/// A running name server; dropping it closes its socket.
pub(crate) struct NameServer {
    /// Where it is.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, u16)>>>,
    _serving: JoinSet<()>,
}

impl NameServer {
    /// Starts it. `script` says what to say to a question for a name, in small letters, and a kind of record.
    pub(crate) async fn start(script: impl Fn(&str, u16) -> Says + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Script) = (Arc::clone(&asked), Arc::new(script));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut buffer = [0_u8; 2_048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let (question, name, kind) = question_in(&buffer[..length]);
                log.lock().push((name.clone(), kind));
                if let Some(answer) = answer(&buffer[..2], question, kind, script(&name, kind)) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, asked, _serving: serving }
    }

    /// All questions so far: name and kind.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().clone()
    }
}

/// The only question of a message: as it stands, its name and its kind.
fn question_in(message: &[u8]) -> (&[u8], String, u16) {
    let mut labels = Vec::new();
    let mut at = 12;
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8(message[at + 1..end].to_vec()).unwrap().to_ascii_lowercase());
        at = end;
    }
    (&message[12..at + 5], labels.join("."), u16::from_be_bytes([message[at + 1], message[at + 2]]))
}

fn answer(id: &[u8], question: &[u8], kind: u16, says: Says) -> Option<Vec<u8>> {
    let (code, addresses, ttl_s) = match says {
        Says::Nothing => return None,
        Says::NoSuchName => (3, Vec::new(), 0),
        Says::Fails => (2, Vec::new(), 0),
        Says::Has(addresses, ttl_s) => (0, addresses, ttl_s),
    };
    let told: Vec<Vec<u8>> = addresses
        .into_iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
            IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut message = id.to_vec();
    message.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::try_from(told.len()).unwrap(), 0, 0, 0, 0]);
    message.extend_from_slice(question);
    for address in told {
        message.extend_from_slice(&[0xc0, 0x0c]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&ttl_s.to_be_bytes());
        message.extend_from_slice(&u16::try_from(address.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&address);
    }
    Some(message)
}
