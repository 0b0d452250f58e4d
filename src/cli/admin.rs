//! The operator's API as the commands use it: where it is, the token, and what its errors mean.

use std::path::Path;

use clap::Args;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::client::{Answer, Client, Download, header};
use super::context::{ConfigArguments, Context};
use super::failure::Failure;
use crate::config::{Config, StorageConfig};

/// Rows of one page.
const PAGE_ROWS: usize = 100;
/// Where help shows the flags that all these commands have.
const HEADING: &str = "Admin API";

/// Flags of every command that works through the admin API.
#[derive(Clone, Debug, Args)]
pub(super) struct AdminArguments {
    /// Address of the admin API
    #[arg(long, global = true, help_heading = HEADING, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    admin_url: String,
    /// Admin token; TOLLGATE_ADMIN_TOKEN or <data dir>/admin.token when not given
    #[arg(long, global = true, help_heading = HEADING, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Who vouches for the certificate of an https:// address (PEM); TOLLGATE_CA_FILE, or whom this machine trusts when not given
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
    /// Configuration file that says where the data directory is
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Data directory with admin.token
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// Print JSON for scripts in place of tables
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,
}

impl AdminArguments {
    /// What they would be with these flags, for a command that has others of its own.
    pub(super) fn of(admin_url: String, admin_token: Option<String>, config: ConfigArguments) -> Self {
        let ConfigArguments { config, data_dir } = config;
        Self { admin_url, admin_token, ca_file: None, config, data_dir, json: false }
    }

    /// The configuration that the flags name.
    pub(super) fn config(&self, context: &Context) -> Result<Config, Failure> {
        let arguments = ConfigArguments { config: self.config.clone(), data_dir: self.data_dir.clone() };
        arguments.load(context, Vec::new())
    }

    /// Who vouches for the gateway, if it is not those whom this machine trusts.
    fn authorities(&self, context: &Context) -> Option<std::path::PathBuf> {
        self.ca_file.clone().or_else(|| context.variable("TOLLGATE_CA_FILE").map(std::path::PathBuf::from))
    }

    /// The data directory that the flags and the configuration name.
    pub(super) fn data_directory(&self, context: &Context) -> Result<std::path::PathBuf, Failure> {
        Ok(self.storage(context)?.dir)
    }

    /// The same with all that the configuration says of the store.
    pub(super) fn storage(&self, context: &Context) -> Result<StorageConfig, Failure> {
        Ok(self.config(context)?.storage)
    }
}

/// The admin API of one gateway.
pub(super) struct Admin {
    client: Client,
    base: Url,
    headers: HeaderMap,
}

impl Admin {
    /// Finds address and token.
    pub(super) fn new(arguments: &AdminArguments, context: &Context) -> Result<Self, Failure> {
        let token = match (&arguments.admin_token, context.variable("TOLLGATE_ADMIN_TOKEN")) {
            (Some(token), _) => token.clone(),
            (None, Some(token)) => String::from(token),
            (None, None) => token_from_data_dir(arguments, context)?,
        };
        let client = Client::trusting(arguments.authorities(context).as_deref())?;
        Ok(Self { client, ..Self::at(&arguments.admin_url, &token)? })
    }

    /// The admin API at an address, with a token.
    pub(super) fn at(address: &str, token: &str) -> Result<Self, Failure> {
        let wrong = || Failure::Usage(format!("{address} is not an address such as http://127.0.0.1:8081"));
        let mut base = Url::parse(address).map_err(|_| wrong())?;
        base.path_segments_mut().map_err(|()| wrong())?.pop_if_empty();
        let headers = HeaderMap::from_iter([header("authorization", &format!("Bearer {token}"))?]);
        Ok(Self { client: Client::new()?, base, headers })
    }

    /// One exchange with `/admin/v1/<path>`; gives back `data`.
    pub(super) async fn call(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Value, Failure> {
        self.exchange(method, self.url(path, &[])?, body).await
    }

    /// `data` of what `GET /admin/v1/<path>` answers with this query.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.exchange(Method::GET, self.url(path, query)?, None).await
    }

    /// All rows of a list, up to `rows_max`.
    pub(super) async fn list(&self, path: &[&str], rows_max: usize) -> Result<Vec<Value>, Failure> {
        self.list_with(path, &[], rows_max).await
    }

    /// All rows of a list that fit a filter, up to `rows_max`.
    pub(super) async fn list_with(
        &self,
        path: &[&str],
        filter: &[(&str, &str)],
        rows_max: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        while rows.len() < rows_max {
            let limit = (rows_max - rows.len()).min(PAGE_ROWS).to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend_from_slice(filter);
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = self.exchange(Method::GET, self.url(path, &query)?, None).await?;
            let items = match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => return Err(Failure::Failed(String::from("the answer is not a list; check --admin-url"))),
            };
            let is_empty = items.is_empty();
            rows.extend(items);
            cursor = page.get("next_cursor").and_then(Value::as_str).map(String::from);
            // Without a filter an empty page with a cursor would be asked for again and again; with one, pages without a
            // row that fits are to be expected, and every cursor is further on.
            if cursor.is_none() || (is_empty && filter.is_empty()) {
                break;
            }
        }
        rows.truncate(rows_max);
        Ok(rows)
    }

    /// What `GET /admin/v1/<path>` answers with this query, in parts.
    pub(super) async fn download(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Download, Failure> {
        let download = self.client.download(&self.url(path, query)?, self.headers.clone()).await?;
        if download.response.status().is_success() {
            return Ok(download);
        }
        let answer = download.refusal().await?;
        let envelope: Option<Value> = serde_json::from_slice(&answer.body).ok();
        Err(refusal(&answer, envelope.as_ref()))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
        // In an address these would stand for something else.
        if let Some(name) = path.iter().find(|name| ["", ".", ".."].contains(name)) {
            return Err(Failure::Usage(format!("{name:?} names nothing")));
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::Usage(String::from("--admin-url is not an address")))?
            .extend(["admin", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn exchange(&self, method: Method, url: Url, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string().into_bytes());
        let answer = self.client.send(method, &url, self.headers.clone(), body).await?;
        let envelope: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if !answer.status.is_success() {
            return Err(refusal(&answer, envelope.as_ref()));
        }
        match envelope {
            Some(mut envelope) => Ok(envelope.get_mut("data").map(Value::take).unwrap_or_default()),
            None if answer.body.is_empty() => Ok(Value::Null),
            None => Err(Failure::Failed(String::from("the answer is not the gateway's; check --admin-url"))),
        }
    }
}

fn token_from_data_dir(arguments: &AdminArguments, context: &Context) -> Result<String, Failure> {
    let path = arguments.data_directory(context)?.join("admin.token");
    let token = std::fs::read_to_string(&path).map_err(|error| no_token(&path, &error.to_string()))?;
    let token = token.trim();
    if token.is_empty() { Err(no_token(&path, "it is empty")) } else { Ok(String::from(token)) }
}

fn no_token(path: &Path, reason: &str) -> Failure {
    Failure::Usage(format!(
        "no admin token: {} can't be used ({reason}); give --admin-token, TOLLGATE_ADMIN_TOKEN or --data-dir",
        path.display()
    ))
}

/// What a refused request is told to a person.
fn refusal(answer: &Answer, envelope: Option<&Value>) -> Failure {
    let text = |key: &str| envelope.and_then(|envelope| envelope.get(key)).and_then(Value::as_str);
    let (Some(code), Some(message)) = (text("code"), text("message")) else {
        return Failure::Failed(format!("the answer is {} and not the gateway's; check --admin-url", answer.status));
    };
    let errors = envelope.and_then(|envelope| envelope.get("errors")).and_then(Value::as_array);
    let fields: Vec<String> = errors
        .into_iter()
        .flatten()
        .map(|error| {
            let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{} {}", part("field"), part("message"))
        })
        .collect();
    let advice = if answer.status == reqwest::StatusCode::UNAUTHORIZED { "; check the admin token" } else { "" };
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join("; ")) };
    Failure::Failed(format!("the gateway refused: {message}{fields} [{code}]{advice}"))
}

#[cfg(test)]
mod tests;
