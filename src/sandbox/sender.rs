//! Sends what the emulators have to tell: at least once, a few times more where it is not taken, and never to strangers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Host, Url};

use crate::clock::Clock;
use crate::sandbox::faults::Faults;
use crate::sandbox::notify::{Outbox, Prepared};

/// Waits before the first try and before those that follow.
const WAITS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// One try takes this long at most.
const TRY_TIME_MAX: Duration = Duration::from_secs(10);
/// Receivers refuse what was signed more than five minutes ago; what is older than this is given up.
const AGE_MAX: Duration = Duration::from_secs(280);
/// Notifications being posted at once.
pub(super) const PLACES: usize = 64;
/// Notifications that are being sent or wait for their next try; more wait to be taken up.
const UNDER_WAY_MAX: usize = 10_000;
/// As much of an answer's body is looked at.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Longest address.
const URL_LENGTH_MAX: usize = 2_048;

/// Posts notifications. Ends when it is dropped; [`Sender::stop`] also waits until it has.
pub(super) struct Sender {
    post: Arc<Post>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// How a notification reaches its receiver.
struct Post {
    /// Where the gateway has registered.
    base: Mutex<Option<Url>>,
    clock: Clock,
    places: Semaphore,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// There is no more to do, for better or worse.
    Ended,
    /// It was not taken.
    NotTaken,
}

impl Sender {
    /// Sends what comes into `outbox` as the emulators' `faults` have it. Must be called within a tokio runtime.
    pub(super) fn start(outbox: Arc<Outbox>, faults: BTreeMap<&'static str, Arc<Faults>>, clock: Clock) -> Self {
        let post = Arc::new(Post { base: Mutex::new(None), clock, places: Semaphore::new(PLACES) });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let work = take_up(outbox, faults, Arc::clone(&post), stop.clone(), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(work));
        Self { post, stop, tasks }
    }

    /// Where notifications go from now on, those too that were not taken yet; `None` for nowhere.
    pub(super) fn set_base(&self, base: Option<Url>) {
        *self.post.base.lock() = base;
    }

    /// Where they go.
    pub(super) fn base(&self) -> Option<Url> {
        self.post.base.lock().clone()
    }

    /// Gives up what is not sent yet.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An address under which a gateway may register.
///
/// # Errors
/// What it must be.
pub(super) fn base_of(url: &str) -> Result<Url, &'static str> {
    const EXPECTED: &str = "an http:// URL with a host and without user, query or fragment";
    let base = Url::parse(url).map_err(|_| EXPECTED)?;
    let is_plain = base.scheme() == "http"
        && base.has_host()
        && base.username().is_empty()
        && base.password().is_none()
        && base.query().is_none()
        && base.fragment().is_none()
        && url.len() <= URL_LENGTH_MAX;
    is_plain.then_some(base).ok_or(EXPECTED)
}

async fn take_up(
    outbox: Arc<Outbox>,
    faults: BTreeMap<&'static str, Arc<Faults>>,
    post: Arc<Post>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    loop {
        let prepared = Arc::new(outbox.take().await);
        if post.address_of(&prepared).is_none() {
            // Nobody has registered: providers send nothing then.
            continue;
        }
        let draw = faults.get(prepared.channel).map(|faults| faults.draw_notification()).unwrap_or_default();
        for is_again in [false, true].into_iter().take(if draw.is_duplicated { 2 } else { 1 }) {
            let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
            let (post, prepared) = (Arc::clone(&post), Arc::clone(&prepared));
            let sending = async move {
                tokio::time::sleep(draw.delay).await;
                post.send(&prepared, is_again).await;
                drop(permit);
            };
            tasks.spawn(stop.clone().run_until_cancelled_owned(sending));
        }
    }
}

impl Post {
    /// Sends a notification until it is taken or given up.
    async fn send(&self, prepared: &Prepared, is_again: bool) {
        for (index, wait) in WAITS.into_iter().enumerate() {
            tokio::time::sleep(wait).await;
            if self.try_once(prepared, is_again || index > 0).await == Tried::Ended {
                return;
            }
        }
        tracing::debug!(channel = prepared.channel, "a notification was not taken and is given up");
    }

    async fn try_once(&self, prepared: &Prepared, is_again: bool) -> Tried {
        let Ok(_place) = self.places.acquire().await else { return Tried::Ended };
        if self.clock.now().since(prepared.signed_at) > AGE_MAX {
            return Tried::Ended;
        }
        // Looked up for each try: a gateway that was started again may be elsewhere.
        let Some(address) = self.address_of(prepared) else { return Tried::NotTaken };
        let answered = tokio::time::timeout(TRY_TIME_MAX, post(&address, prepared, is_again)).await;
        let Ok(Ok((status, body))) = answered else { return Tried::NotTaken };
        let says_so = prepared.taken_says.is_none_or(|expected| body.trim_ascii() == expected.as_bytes());
        let may_change = status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS;
        let is_final_refusal = prepared.refusal_is_final && status.is_client_error() && !may_change;
        if (status.is_success() && says_so) || is_final_refusal { Tried::Ended } else { Tried::NotTaken }
    }

    /// Where a notification goes. What is to go to a host other than this one and the gateway's goes to the gateway:
    /// emulators send nothing to strangers, whatever address a request names.
    fn address_of(&self, prepared: &Prepared) -> Option<Url> {
        let base = self.base.lock().clone();
        let named = prepared.url.as_deref().and_then(|url| Url::parse(url).ok());
        if let Some(url) = named.filter(|url| may_go_to(url, base.as_ref())) {
            return Some(url);
        }
        let mut url = base?;
        let path = format!("{}/callbacks/{}", url.path().trim_end_matches('/'), prepared.channel);
        url.set_path(&path);
        Some(url)
    }
}

fn may_go_to(url: &Url, base: Option<&Url>) -> bool {
    let is_this_host = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && (is_this_host || base.is_some_and(|base| url.has_host() && base.host() == url.host()))
}

/// Posts a notification over a connection of its own and reads the answer.
async fn post(url: &Url, prepared: &Prepared, is_again: bool) -> io::Result<(StatusCode, Bytes)> {
    let (headers, body) = match &prepared.again {
        Some((headers, body)) if is_again => (headers, body),
        _ => (&prepared.headers, &prepared.body),
    };
    let host = url.host_str().ok_or(io::ErrorKind::InvalidInput)?;
    let port = url.port_or_known_default().unwrap_or(80);
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::post(target)
        .header(HOST, format!("{host}:{port}"))
        .header(USER_AGENT, "tollgate-sandbox")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, prepared.content_type);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = request.body(Full::new(body.clone())).map_err(io::Error::other)?;
    // Without the brackets of IPv6.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // All has come that will; what there is of it can be read to its end.
        _ = connection => exchange.await,
    }
}
