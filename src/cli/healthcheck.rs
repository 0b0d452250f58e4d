//! `tollgate healthcheck`: whether the gateway answers, for containers and scripts.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use url::Url;

use super::client::{Answer, Client};
use super::context::{ConfigArguments, Context};
use super::failure::{Failure, Outcome};
use super::output;
use super::running::reachable;

/// Flags of `healthcheck`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The listener's address; that of [server] listen on this machine when not given
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask only whether the process is alive, also while it does not take requests
    #[arg(long)]
    alive: bool,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Asks, and says what came back. Fine when the gateway is as asked for.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let base = match &arguments.url {
        Some(url) => url.clone(),
        None => own_address(&arguments.config, context)?,
    };
    let asked = if arguments.alive { Asked::Alive } else { Asked::Ready };
    let answered = Probe::of(&base)?.ask(asked, Duration::from_secs(arguments.timeout)).await;
    match answered {
        Ok(()) => output::line(asked.as_str()).map(|()| Outcome::Fine),
        Err(problem) => Err(Failure::Failed(problem)),
    }
}

/// Where the configuration says that merchants reach the gateway, as this machine does.
fn own_address(arguments: &ConfigArguments, context: &Context) -> Result<String, Failure> {
    let server = arguments.load(context, Vec::new())?.server;
    if server.listen.port() == 0 {
        return Err(Failure::Usage(String::from(
            "[server] listen takes any free port; say with --url which one it took",
        )));
    }
    let scheme = if server.tls_certificate.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{}", reachable(server.listen)))
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whether the process answers at all.
    Alive,
    /// Whether it takes requests.
    Ready,
}

impl Asked {
    const fn path(self) -> &'static str {
        match self {
            Self::Alive => "healthz",
            Self::Ready => "readyz",
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ready => "ready",
        }
    }
}

/// Asks a listener how it is doing.
pub(super) struct Probe {
    client: Client,
    base: Url,
}

impl Probe {
    /// For the listener at this address.
    pub(super) fn of(base: &str) -> Result<Self, Failure> {
        let wrong = || Failure::Usage(format!("{base} is not an address such as http://127.0.0.1:8080"));
        let base = Url::parse(base).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong());
        }
        Ok(Self { client: Client::to_whomever()?, base })
    }

    /// Whether the process does anything with who comes. A listener that has no room for one more connection refuses it, or
    /// closes it, which a client may see before the refusal: it is alive.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub(super) async fn is_answered(&self, timeout: Duration) -> Result<(), String> {
        match tokio::time::timeout(timeout, self.exchange(Asked::Alive)).await {
            Ok(Ok(_)) => Ok(()),
            // Who is stuck breaks nothing off, and where nobody listens there is no connection.
            Ok(Err(failure)) if !self.is_listened_to(timeout).await => Err(failure.to_string()),
            Ok(Err(_)) => Ok(()),
            Err(_elapsed) => Err(no_answer_within(timeout)),
        }
    }

    async fn is_listened_to(&self, timeout: Duration) -> bool {
        let (Some(host), Some(port)) = (self.base.host_str(), self.base.port_or_known_default()) else { return false };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let connected = tokio::time::timeout(timeout, tokio::net::TcpStream::connect((host, port))).await;
        connected.is_ok_and(|connected| connected.is_ok())
    }

    async fn exchange(&self, asked: Asked) -> Result<Answer, Failure> {
        let mut url = self.base.clone();
        url.set_path(asked.path());
        self.client.send(Method::GET, &url, Default::default(), None).await
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why the answer is no, in words.
    pub(super) async fn ask(&self, asked: Asked, timeout: Duration) -> Result<(), String> {
        let answer = match tokio::time::timeout(timeout, self.exchange(asked)).await {
            Ok(answer) => answer.map_err(|failure| failure.to_string())?,
            Err(_elapsed) => return Err(no_answer_within(timeout)),
        };
        if answer.status.is_success() {
            return Ok(());
        }
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let message = body.get("message").and_then(serde_json::Value::as_str).unwrap_or("it says no more");
        Err(format!("not {}: {} ({message})", asked.as_str(), answer.status))
    }
}

fn no_answer_within(timeout: Duration) -> String {
    format!("there was no answer within {} s", timeout.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::scripted::Scripted;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn only_the_answer_that_was_asked_for_is_yes() {
        let stopping = r#"{"code":"SHUTTING_DOWN","message":"The server is stopping"}"#;
        let server = Scripted::start(&[(200, "{}"), (503, stopping), (200, ""), (404, "x")]).await;
        let probe = Probe::of(&format!("{}/some/where", server.url)).unwrap();
        assert_eq!(probe.ask(Asked::Ready, TIMEOUT).await, Ok(()));
        let refused = probe.ask(Asked::Ready, TIMEOUT).await.unwrap_err();
        assert_eq!(refused, "not ready: 503 Service Unavailable (The server is stopping)");
        assert_eq!(probe.ask(Asked::Alive, TIMEOUT).await, Ok(()));
        assert_eq!(probe.ask(Asked::Alive, TIMEOUT).await.unwrap_err(), "not alive: 404 Not Found (it says no more)");
        let paths: Vec<_> = server.asked().iter().map(|asked| asked.uri.path().to_owned()).collect();
        assert_eq!(paths, ["/readyz", "/readyz", "/healthz", "/healthz"]);
    }

    #[tokio::test]
    async fn a_listener_without_room_for_one_more_connection_answers() {
        let server = Scripted::start(&[(503, r#"{"code":"OVERLOADED"}"#)]).await;
        assert_eq!(Probe::of(&server.url).unwrap().is_answered(TIMEOUT).await, Ok(()));
    }

    #[tokio::test]
    async fn a_listener_that_closes_what_it_has_no_room_for_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        assert_eq!(Probe::of(&base).unwrap().is_answered(TIMEOUT).await, Ok(()));
        closing.abort();
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_alive() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe::of(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        // Takes connections and says nothing.
        let silent = probe.ask(Asked::Alive, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(silent, "there was no answer within 0.05 s");
        assert_eq!(probe.is_answered(Duration::from_millis(50)).await.unwrap_err(), silent);
        drop(listener);
        assert!(probe.ask(Asked::Alive, TIMEOUT).await.unwrap_err().contains("nothing answers"));
        assert!(probe.is_answered(TIMEOUT).await.unwrap_err().contains("nothing answers"));
        for wrong in ["", "127.0.0.1:8080", "ftp://127.0.0.1"] {
            assert!(matches!(Probe::of(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn the_address_is_where_this_machine_reaches_the_merchants_listener() {
        let address = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
            own_address(&ConfigArguments::default(), &Context::new(variables.collect()))
        };
        assert_eq!(address(&[]).unwrap(), "http://127.0.0.1:8080");
        assert_eq!(address(&[("TOLLGATE_SERVER__LISTEN", "0.0.0.0:81")]).unwrap(), "http://127.0.0.1:81");
        assert_eq!(address(&[("TOLLGATE_SERVER__LISTEN", "[::]:81")]).unwrap(), "http://[::1]:81");
        let tls = [("TOLLGATE_SERVER__TLS_CERTIFICATE", "a.pem"), ("TOLLGATE_SERVER__TLS_KEY", "b.pem")];
        assert_eq!(address(&tls).unwrap(), "https://127.0.0.1:8080");
        assert!(matches!(address(&[("TOLLGATE_SERVER__LISTEN", "127.0.0.1:0")]), Err(Failure::Usage(_))));
    }
}
