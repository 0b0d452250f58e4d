//! The operator's API as the commands use it: where it is, the token, and what its errors mean.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::client::{Answer, Client, Download, header};
use super::context::{ConfigArguments, Context, text_of_config};
use super::failure::Failure;
use super::paging::{Listed, Paging};
use super::running::reachable;
use crate::config::{Config, StorageConfig};

/// What the gateway says of a path that a listener does not have.
const NO_SUCH_PATH: &str = "There is no such path";
/// Rows of one page.
const PAGE_ROWS: usize = 100;
/// Where help shows the flags that all these commands have.
pub(super) const HEADING: &str = "Admin API";

/// Where the configuration of a gateway that was installed is; the operator's commands look there for its address and its
/// data directory when nobody names another file.
const INSTALLED_CONFIG: &str = "/etc/tollgate/config.toml";
/// The data directory of a gateway that was installed as a service, which the unit names and not the file.
const INSTALLED_DATA: &str = "/var/lib/tollgate";
/// Name of the file with the first admin token, in the data directory.
const TOKEN_FILE: &str = "admin.token";
/// Longest file that is read as a token.
const TOKEN_FILE_BYTES_MAX: u64 = 4 * 1024;

/// Flags of every command that works through the admin API.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct AdminArguments {
    /// Address of the admin API; TOLLGATE_ADMIN_URL, or [server] admin_listen of the configuration when not given
    #[arg(long, visible_alias = "url", global = true, help_heading = HEADING, value_name = "URL")]
    pub(super) admin_url: Option<String>,
    /// Admin token, which other users of the machine can see here; TOLLGATE_ADMIN_TOKEN, a file or admin.token in the data directory
    /// when not given
    #[arg(long, visible_alias = "token", global = true, help_heading = HEADING, value_name = "TOKEN")]
    pub(super) admin_token: Option<String>,
    /// File with the admin token; TOLLGATE_ADMIN_TOKEN_FILE when not given
    #[arg(long, visible_alias = "token-file", global = true, help_heading = HEADING, value_name = "FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
    /// Who vouches for the certificate of an https:// address (PEM); TOLLGATE_CA_FILE, or whom this machine trusts when not given
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// The gateway's configuration file, which says where it listens and where its data directory is; TOLLGATE_CONFIG, or
    /// /etc/tollgate/config.toml if it is there, when not given
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Data directory with admin.token, in place of [storage] dir
    #[arg(long, global = true, help_heading = HEADING, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Print JSON for scripts in place of tables, errors too
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,
    /// What the configuration file says, once it was read: a pipe has nothing more the second time.
    #[arg(skip)]
    pub(super) config_text: OnceLock<String>,
}

impl AdminArguments {
    /// The configuration that the flags name.
    pub(super) fn config(&self, context: &Context) -> Result<Config, Failure> {
        let named = ConfigArguments { config: self.config.clone(), data_dir: self.data_dir.clone() };
        let installed = || Some(PathBuf::from(INSTALLED_CONFIG)).filter(|file| file.is_file());
        let config = named.file(context).or_else(installed);
        let text = config.as_deref().map(|file| self.text_of(file)).transpose()?;
        ConfigArguments { config, ..named }.load_with(context, Vec::new(), text)
    }

    /// What the configuration file says, which is always the same one.
    pub(super) fn text_of(&self, file: &Path) -> Result<String, Failure> {
        if let Some(text) = self.config_text.get() {
            return Ok(text.clone());
        }
        let text = text_of_config(file)?;
        Ok(self.config_text.get_or_init(|| text).clone())
    }

    /// Who vouches for the gateway, if it is not those whom this machine trusts.
    fn authorities(&self, context: &Context) -> Option<PathBuf> {
        self.ca_file.clone().or_else(|| context.variable("TOLLGATE_CA_FILE").map(PathBuf::from))
    }

    /// The data directory that the flags and the configuration name.
    pub(super) fn data_directory(&self, context: &Context) -> Result<PathBuf, Failure> {
        Ok(self.storage(context)?.dir)
    }

    /// The same with all that the configuration says of the store.
    pub(super) fn storage(&self, context: &Context) -> Result<StorageConfig, Failure> {
        let mut storage = self.config(context)?.storage;
        storage.dir = data_directory_of(storage.dir, &Config::embedded()?.storage.dir, Path::new(INSTALLED_DATA));
        Ok(storage)
    }

    /// Where the admin API is.
    fn address(&self, context: &Context) -> Result<String, Failure> {
        match (&self.admin_url, context.variable("TOLLGATE_ADMIN_URL")) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(url)) => Ok(String::from(url)),
            (None, None) => {
                let server = self.config(context)?.server;
                let scheme = if server.admin_tls_certificate.is_some() { "https" } else { "http" };
                Ok(format!("{scheme}://{}", reachable(server.admin_listen)))
            }
        }
    }

    /// The token, and where it is from.
    fn token(&self, context: &Context) -> Result<(String, String), Failure> {
        if let Some(token) = &self.admin_token {
            return Ok((token.clone(), String::from("--admin-token")));
        }
        if let Some(file) = &self.admin_token_file {
            return token_in(file, "--admin-token-file");
        }
        if let Some(token) = context.variable("TOLLGATE_ADMIN_TOKEN") {
            return Ok((String::from(token), String::from("TOLLGATE_ADMIN_TOKEN")));
        }
        if let Some(file) = context.variable("TOLLGATE_ADMIN_TOKEN_FILE") {
            return token_in(Path::new(file), "TOLLGATE_ADMIN_TOKEN_FILE");
        }
        let file = self.data_directory(context)?.join(TOKEN_FILE);
        token_in(&file, "the data directory")
    }
}

/// The admin API of one gateway.
pub(super) struct Admin {
    client: Client,
    base: Url,
    headers: HeaderMap,
    /// Where the token is from, in words.
    token_from: String,
}

impl Admin {
    /// Finds address and token.
    pub(super) fn new(arguments: &AdminArguments, context: &Context) -> Result<Self, Failure> {
        let (token, token_from) = arguments.token(context)?;
        let client = Client::trusting(arguments.authorities(context).as_deref())?;
        Ok(Self { token_from, client, ..Self::at(&arguments.address(context)?, &token)? })
    }

    /// The admin API at an address, with a token.
    pub(super) fn at(address: &str, token: &str) -> Result<Self, Failure> {
        let wrong = || Failure::Usage(format!("{address} is not an address such as http://127.0.0.1:8081"));
        let mut base = Url::parse(address).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong());
        }
        base.path_segments_mut().map_err(|()| wrong())?.pop_if_empty();
        let headers = HeaderMap::from_iter([header("authorization", &format!("Bearer {token}"))?]);
        Ok(Self { client: Client::new()?, base, headers, token_from: String::from("the command line") })
    }

    /// One exchange with `/admin/v1/<path>`; gives back `data`.
    pub(super) async fn call(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Value, Failure> {
        self.exchange(method, self.url(path, &[])?, body).await
    }

    /// `data` of what `GET /admin/v1/<path>` answers with this query.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.exchange(Method::GET, self.url(path, query)?, None).await
    }

    /// Rows of a list.
    pub(super) async fn list(&self, path: &[&str], paging: &Paging) -> Result<Listed, Failure> {
        self.list_with(path, &[], paging).await
    }

    /// Rows of a list that fit a filter.
    pub(super) async fn list_with(
        &self,
        path: &[&str],
        filter: &[(&str, &str)],
        paging: &Paging,
    ) -> Result<Listed, Failure> {
        let rows_max = paging.rows_max();
        let mut listed = Listed { rows: Vec::new(), next_cursor: paging.cursor.clone() };
        while listed.rows.len() < rows_max {
            let limit = (rows_max - listed.rows.len()).min(PAGE_ROWS).to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend_from_slice(filter);
            query.extend(listed.next_cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = self.exchange(Method::GET, self.url(path, &query)?, None).await?;
            let items = match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => return Err(Failure::Failed(String::from("the answer is not a list; check --admin-url"))),
            };
            let is_empty = items.is_empty();
            listed.rows.extend(items);
            listed.next_cursor = page.get("next_cursor").and_then(Value::as_str).map(String::from);
            // Without a filter an empty page with a cursor would be asked for again and again; with one, pages without a
            // row that fits are to be expected, and every cursor is further on.
            if listed.next_cursor.is_none() || (is_empty && filter.is_empty()) {
                break;
            }
        }
        listed.rows.truncate(rows_max);
        Ok(listed)
    }

    /// What `GET /admin/v1/<path>` answers with this query, in parts.
    pub(super) async fn download(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Download, Failure> {
        let download = self.client.download(&self.url(path, query)?, self.headers.clone()).await?;
        if download.response.status().is_success() {
            return Ok(download);
        }
        let answer = download.refusal().await?;
        let envelope: Option<Value> = serde_json::from_slice(&answer.body).ok();
        Err(self.refusal(&answer, envelope))
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
            return Err(self.refusal(&answer, envelope));
        }
        match envelope {
            Some(mut envelope) => Ok(envelope.get_mut("data").map(Value::take).unwrap_or_default()),
            None if answer.body.is_empty() => Ok(Value::Null),
            None => Err(Failure::Failed(String::from("the answer is not the gateway's; check --admin-url"))),
        }
    }

    /// What a refused request is told to a person.
    fn refusal(&self, answer: &Answer, envelope: Option<Value>) -> Failure {
        let text = |key: &str| envelope.as_ref().and_then(|envelope| envelope[key].as_str());
        let (Some(code), Some(message)) = (text("code"), text("message")) else {
            return Failure::Failed(format!(
                "the answer is {} and not the gateway's; check --admin-url",
                answer.status
            ));
        };
        let errors = envelope.as_ref().and_then(|envelope| envelope["errors"].as_array());
        let field = |error: &Value| {
            let part = |key: &str| error[key].as_str().unwrap_or_default();
            format!("{} {}", part("field"), part("message"))
        };
        let fields: Vec<String> = errors.into_iter().flatten().map(field).collect();
        let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join("; ")) };
        let advice = self.advice(answer, message);
        let message = format!("the gateway refused: {message}{fields} [{code}]{advice}");
        Failure::Refused { message, answer: envelope.unwrap_or_default() }
    }

    /// What can be done about a refusal, when that does not follow from what was asked.
    fn advice(&self, answer: &Answer, message: &str) -> String {
        let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        match (answer.status, retry_after) {
            (StatusCode::UNAUTHORIZED, _) => {
                format!(
                    "; check the admin token, which is from {}, and that --admin-url is its gateway",
                    self.token_from
                )
            }
            (StatusCode::NOT_FOUND, _) if message == NO_SUCH_PATH => {
                String::from("; check --admin-url: merchants' listener has no admin API, [server] admin_listen has it")
            }
            (_, Some(seconds)) => format!("; try again in {seconds} s"),
            _ => String::new(),
        }
    }
}

/// Where the data are: where the configuration says, or, when it leaves that to the default and there are none, where those of
/// an installed gateway are.
fn data_directory_of(configured: PathBuf, default: &Path, installed: &Path) -> PathBuf {
    let is_elsewhere = configured == default && !configured.exists() && installed.exists();
    if is_elsewhere { installed.to_owned() } else { configured }
}

/// The token that a file holds, and what to call the file.
fn token_in(file: &Path, source: &str) -> Result<(String, String), Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|opened| opened.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| no_token(file, source, &error.to_string()))?;
    match text.trim() {
        "" => Err(no_token(file, source, "it is empty")),
        token => Ok((String::from(token), file.display().to_string())),
    }
}

fn no_token(file: &Path, source: &str, reason: &str) -> Failure {
    Failure::Usage(format!(
        "no admin token: {} (of {source}) can't be used ({reason}); give --admin-token-file, TOLLGATE_ADMIN_TOKEN, or \
         --data-dir with the gateway's data directory",
        file.display()
    ))
}

#[cfg(test)]
mod tests;
