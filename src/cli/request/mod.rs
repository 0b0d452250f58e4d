//! `tollgate request`: signs one merchant request and sends it.

use std::io::Read;
use std::path::Path;

use clap::Args;
use reqwest::Method;
use url::Url;

use super::client::{Answer, Client};
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::output;
use super::signer::Signer;

/// Largest body that is sent; far above what the gateway takes, so that its own refusal can be seen.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Where a gateway listens that nobody has told otherwise.
const OWN_ADDRESS: &str = "http://127.0.0.1:8080";
/// Beginnings of the names of headers that are worth a look.
const HEADERS_OF_INTEREST: [&str; 6] =
    ["x-request-id", "x-ratelimit", "ratelimit", "retry-after", "idempotent-replayed", "location"];

/// Flags of `request`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// GET, POST, PUT, PATCH or DELETE
    #[arg(value_name = "METHOD")]
    method: String,
    /// Path with query, such as /api/v1/payments
    #[arg(value_name = "PATH")]
    path: String,
    /// Body: JSON, @FILE for a file's content, @- for standard input
    #[arg(long, short, value_name = "JSON|@FILE")]
    data: Option<String>,
    /// Key id; TOLLGATE_KEY when not given
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Key's secret; TOLLGATE_SECRET when not given, which other users of the machine can't see
    #[arg(long, value_name = "SECRET", hide_default_value = true)]
    secret: Option<String>,
    /// The gateway's address; TOLLGATE_URL, or http://127.0.0.1:8080 when not given
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who vouches for the certificate of an https:// address (PEM); TOLLGATE_CA_FILE, or whom this machine trusts when not given
    #[arg(long, value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
    /// Idempotency-Key, so that a repetition is not a second request
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Sends the request and prints status, headers of interest and body. Fine on 2xx.
pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Outcome, Failure> {
    let body = arguments.data.as_deref().map(body_of).transpose()?;
    let key = credential(arguments.key.as_deref(), context.variable("TOLLGATE_KEY"), "--key or TOLLGATE_KEY")?;
    let secret =
        credential(arguments.secret.as_deref(), context.variable("TOLLGATE_SECRET"), "--secret or TOLLGATE_SECRET")?;
    let signer = Signer {
        key_id: String::from(key),
        secret: String::from(secret),
        clock: context.clock.clone(),
        random: context.random.clone(),
    };
    let base = arguments.url.as_deref().or(context.variable("TOLLGATE_URL")).unwrap_or(OWN_ADDRESS);
    let url = address(base, &arguments.path)?;
    let method = method_of(&arguments.method)?;
    let idempotency_key = arguments.idempotency_key.unwrap_or_default();
    let headers = signer.headers(&method, &url, &idempotency_key, body.as_deref().unwrap_or_default())?;
    let authorities = arguments.ca_file.or_else(|| context.variable("TOLLGATE_CA_FILE").map(std::path::PathBuf::from));
    let answer = Client::trusting(authorities.as_deref())?.send(method, &url, headers, body).await?;
    output::line(&shown(&answer))?;
    Ok(if answer.status.is_success() { Outcome::Fine } else { Outcome::Failed })
}

fn credential<'a>(flag: Option<&'a str>, variable: Option<&'a str>, names: &str) -> Result<&'a str, Failure> {
    let missing = || {
        Failure::Usage(format!(
            "{names} is missing; `tollgate merchant create NAME --tier TIER` makes a merchant with a key"
        ))
    };
    flag.or(variable).ok_or_else(missing)
}

fn method_of(text: &str) -> Result<Method, Failure> {
    let method = text.to_ascii_uppercase();
    match method.as_str() {
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" => {
            Method::from_bytes(method.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))
        }
        _ => Err(Failure::Usage(format!("{text} is not a method; use GET, POST, PUT, PATCH or DELETE"))),
    }
}

fn address(base: &str, path: &str) -> Result<Url, Failure> {
    if !path.starts_with('/') {
        return Err(Failure::Usage(format!("{path} is not a path; begin it with /, as in /api/v1/payments")));
    }
    let url = Url::parse(&format!("{}{path}", base.trim_end_matches('/')))
        .map_err(|error| Failure::Usage(format!("{base} is not an address such as http://127.0.0.1:8080 ({error})")))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(Failure::Usage(format!("{base} is not an address; begin it with http:// or https://")))
    }
}

/// The bytes of the body. They are sent as they are, so that wrong JSON can be tried too.
fn body_of(data: &str) -> Result<Vec<u8>, Failure> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => read_bounded(std::io::stdin().lock(), "standard input"),
        Some(name) => {
            let unreadable = |error| Failure::Usage(format!("the file {name} can't be read: {error}"));
            read_bounded(std::fs::File::open(Path::new(name)).map_err(unreadable)?, name)
        }
    }
}

fn read_bounded(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = source.take(BODY_BYTES_MAX + 1).read_to_end(&mut body);
    read.map_err(|error| Failure::Usage(format!("{name} can't be read: {error}")))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        return Err(Failure::Usage(format!("{name} is larger than {BODY_BYTES_MAX} bytes; no request is that large")));
    }
    Ok(body)
}

/// Status, headers of interest and the body, JSON indented.
fn shown(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.status);
    for (name, value) in &answer.headers {
        if HEADERS_OF_INTEREST.iter().any(|beginning| name.as_str().starts_with(beginning)) {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    if answer.body.is_empty() {
        return text;
    }
    text.push('\n');
    match serde_json::from_slice::<serde_json::Value>(&answer.body) {
        Ok(json) => text.push_str(&format!("{json:#}")),
        Err(_) => text.push_str(&String::from_utf8_lossy(&answer.body)),
    }
    text
}

#[cfg(test)]
mod tests;
