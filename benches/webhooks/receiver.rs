//! A receiver that does next to nothing, so that it is the sender that is measured: it notes the number that each body begins
//! with and when it came, and answers as its group is told to.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate::clock::Clock;

use crate::house::{BODY_START, NUMBER_DIGITS};

/// Paths begin with the number of their group, less than this.
pub const GROUPS: usize = 4;

/// Steps in which it is waited until nothing is on its way.
const QUIET_STEPS: usize = 5_000;
const QUIET_STEP: Duration = Duration::from_millis(1);

/// How a group answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 200, at once.
    Take,
    /// 200, after this.
    TakeAfter(Duration),
    /// 200, but for each of so many, which is answered 500.
    RefuseOneOf(usize),
    /// Not at all, until the mode changes; then 200.
    Hang,
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was taken: the answer is 200, though the sender may be gone before it.
    Taken,
    /// It was answered 500.
    Refused,
    /// It came while there were no answers. When there are again and its sender waits still, it is taken then.
    Unanswered,
}

/// A webhook that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub number: u64,
    /// As [`Clock::steady`] has it.
    pub at_us: u64,
    pub fate: Fate,
}

struct Group {
    mode: watch::Sender<Mode>,
    arrivals: Mutex<Vec<Arrival>>,
}

/// See the module.
pub struct Receiver {
    clock: Clock,
    groups: [Group; GROUPS],
    /// Connections that are open.
    open: AtomicUsize,
}

/// Counts a connection for as long as it is there.
struct Open(Arc<Receiver>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The address of a host: each endpoint is to have its own, as in life.
pub fn host(number: usize) -> Ipv4Addr {
    let octet = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, octet(number / 250), octet(1 + number % 250))
}

impl Receiver {
    /// One that takes everything and does not listen yet.
    pub fn new() -> Arc<Self> {
        let group = || Group { mode: watch::Sender::new(Mode::Take), arrivals: Mutex::default() };
        let groups = std::array::from_fn(|_| group());
        Arc::new(Self { clock: Clock::system(), groups, open: AtomicUsize::new(0) })
    }

    /// Listens on a free port of the first host, and on the same of so many more. Returns the port.
    pub async fn listen(self: &Arc<Self>, hosts: usize) -> u16 {
        let mut port = 0;
        for number in 0..hosts.max(1) {
            let listener = TcpListener::bind(SocketAddr::from((host(number), port))).await.expect("a port");
            port = listener.local_addr().expect("an address").port();
            tokio::spawn(Arc::clone(self).serve(listener));
        }
        port
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            self.open.fetch_add(1, Ordering::SeqCst);
            let open = Open(Arc::clone(&self));
            tokio::spawn(async move {
                let answering = service_fn(|request| open.0.answer(request));
                let mut server = http1::Builder::new();
                let _ = server.header_read_timeout(None).serve_connection(TokioIo::new(stream), answering).await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(match path.strip_prefix("/control/") {
            Some(command) => self.control(command),
            None => self.receive(&path, &body).await,
        })
    }

    async fn receive(&self, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let (Some(group), Some(number)) = (self.group(path.trim_start_matches('/')), number_of(body)) else {
            return text(StatusCode::BAD_REQUEST, Bytes::from_static(b"what is this?"));
        };
        let mode = *group.mode.borrow();
        let at_us = self.clock.steady().micros();
        let fate = {
            let mut arrivals = group.arrivals.lock();
            let fate = match mode {
                Mode::Take | Mode::TakeAfter(_) => Fate::Taken,
                Mode::RefuseOneOf(many) if arrivals.len() % many != many - 1 => Fate::Taken,
                Mode::RefuseOneOf(_) => Fate::Refused,
                Mode::Hang => Fate::Unanswered,
            };
            arrivals.push(Arrival { number, at_us, fate });
            fate
        };
        match mode {
            Mode::TakeAfter(wait) => tokio::time::sleep(wait).await,
            Mode::Hang => {
                // A sender that is gone, or has lost its patience, ends this here.
                let _ = group.mode.subscribe().wait_for(|mode| *mode != Mode::Hang).await;
                let arrival = Arrival { number, at_us: self.clock.steady().micros(), fate: Fate::Taken };
                group.arrivals.lock().push(arrival);
            }
            Mode::Take | Mode::RefuseOneOf(_) => {}
        }
        let status = if fate == Fate::Refused { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        text(status, Bytes::from_static(b"{\"received\":true}"))
    }

    /// How a group answers from now on.
    pub fn set(&self, group: usize, mode: Mode) {
        self.groups[group].mode.send_replace(mode);
    }

    /// What has come for a group.
    pub fn arrivals(&self, group: usize) -> Vec<Arrival> {
        self.groups[group].arrivals.lock().clone()
    }

    /// How much that is.
    pub fn count(&self, group: usize) -> usize {
        self.groups[group].arrivals.lock().len()
    }

    /// Waits until all that was sent by a process that is gone has come: its connections end when they are read to their
    /// ends, and those of a listener are taken in the order in which they come, so that ours comes after all of them.
    pub async fn quiet(&self, port: u16, hosts: usize) {
        for number in 0..hosts {
            let mut probe = TcpStream::connect((host(number), port)).await.expect("a connection");
            probe
                .write_all(b"GET /control/0/count HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await
                .expect("a probe");
            probe.read_to_end(&mut Vec::new()).await.expect("an answer");
        }
        for _ in 0..QUIET_STEPS {
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(QUIET_STEP).await;
        }
        panic!("{} connections of a process that is gone stay open", self.open.load(Ordering::SeqCst));
    }

    /// What another process asks: `GROUP/count`, `GROUP/drain`, and `GROUP/take`, `GROUP/hang`, `GROUP/after/MS`.
    fn control(&self, command: &str) -> Response<Full<Bytes>> {
        let Some(group) = self.group(command) else { return text(StatusCode::NOT_FOUND, Bytes::new()) };
        let words: Vec<&str> = command.split('/').skip(1).collect();
        let set = |mode| {
            group.mode.send_replace(mode);
            text(StatusCode::OK, Bytes::new())
        };
        match words.as_slice() {
            ["take"] => set(Mode::Take),
            ["hang"] => set(Mode::Hang),
            ["after", ms] => set(Mode::TakeAfter(Duration::from_millis(ms.parse().unwrap_or(0)))),
            ["count"] => text(StatusCode::OK, group.arrivals.lock().len().to_string().into()),
            ["drain"] => {
                let arrivals = std::mem::take(&mut *group.arrivals.lock());
                let pairs = arrivals.iter().flat_map(|arrival| [arrival.number, arrival.at_us]);
                text(StatusCode::OK, pairs.flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into())
            }
            _ => text(StatusCode::NOT_FOUND, Bytes::new()),
        }
    }

    fn group(&self, path: &str) -> Option<&Group> {
        self.groups.get(path.split('/').next()?.parse::<usize>().ok()?)
    }
}

fn number_of(body: &[u8]) -> Option<u64> {
    let digits = body.strip_prefix(BODY_START.as_bytes())?.get(..NUMBER_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn text(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}
