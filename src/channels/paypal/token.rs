//! Access tokens. One is shared by all calls until most of its time is over; while it is fetched, everybody waits for
//! that one fetch. When no new one can be had, the old one is used until its end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::channels::http::{Deadline, HttpClient, HttpError};
use crate::clock::Clock;
use crate::domain::time::Monotonic;

/// A token is used for so much of its time, in percent.
const USED_PERCENT: u32 = 90;
/// When no new token could be had, the old one is used for so long before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// No token is believed to be good for longer than this.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// An access token.
pub(super) type AccessToken = Zeroizing<String>;

/// The account's tokens.
pub(super) struct Tokens {
    http: HttpClient,
    clock: Clock,
    /// Client id and secret as Basic wants them.
    authorization: Zeroizing<String>,
    current: Mutex<Option<Current>>,
}

struct Current {
    token: AccessToken,
    /// When another one is to be fetched.
    renewed_at: Monotonic,
    /// Its end.
    until: Monotonic,
}

/// What is known about a fresh token.
pub(super) struct Granted {
    pub(super) app_id: Option<String>,
}

/// Why there is no token.
pub(super) enum TokenError {
    /// PayPal refused to give one.
    Refused(String),
    /// It could not be asked, or its answer can't be read.
    Unreachable(String),
}

impl From<TokenError> for HttpError {
    /// Without a token nothing was sent but the question for one.
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Refused(reason) | TokenError::Unreachable(reason) => Self::NotSent(reason),
        }
    }
}

impl Tokens {
    pub(super) fn new(http: HttpClient, clock: Clock, client_id: &str, client_secret: &str) -> Self {
        let pair = Zeroizing::new(format!("{client_id}:{client_secret}"));
        let authorization = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        Self { http, clock, authorization, current: Mutex::new(None) }
    }

    /// A token that is not `refused`, which PayPal did not take any more.
    ///
    /// # Errors
    /// [`TokenError`]; nothing but the question for a token was sent then. Whoever waits here waits for those that came
    /// before, whose deadlines are earlier.
    pub(super) async fn get(
        &self,
        refused: Option<&AccessToken>,
        deadline: Deadline,
    ) -> Result<AccessToken, TokenError> {
        let mut current = self.current.lock().await;
        let mut known = current.as_mut().filter(|known| refused != Some(&known.token));
        if let Some(known) = &known
            && self.clock.monotonic() < known.renewed_at
        {
            return Ok(known.token.clone());
        }
        match self.fetch(deadline).await {
            Ok((fetched, _)) => {
                let token = fetched.token.clone();
                *current = Some(fetched);
                Ok(token)
            }
            Err(error @ TokenError::Refused(_)) => Err(error),
            Err(error) => match known.as_mut().filter(|known| self.clock.monotonic() < known.until) {
                Some(known) => {
                    known.renewed_at = self.clock.monotonic().plus(RETRY_AFTER).min(known.until);
                    Ok(known.token.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Fetches a token in any case, and says what PayPal said about it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub(super) async fn renew(&self, deadline: Deadline) -> Result<Granted, TokenError> {
        let mut current = self.current.lock().await;
        let (fetched, granted) = self.fetch(deadline).await?;
        *current = Some(fetched);
        Ok(granted)
    }

    async fn fetch(&self, deadline: Deadline) -> Result<(Current, Granted), TokenError> {
        #[derive(Deserialize)]
        struct Body {
            access_token: String,
            expires_in: u64,
            #[serde(default)]
            app_id: Option<String>,
        }
        let form = [(String::from("grant_type"), String::from("client_credentials"))];
        let request = self.http.post_form("/v1/oauth2/token", &[], &form);
        let request = request.header("authorization", self.authorization.as_str());
        let asked_at = self.clock.monotonic();
        let answer = match self.http.send(request, deadline).await {
            Ok(answer) => answer,
            Err(error) => return Err(TokenError::Unreachable(format!("no access token: {error}"))),
        };
        if matches!(answer.status, 400 | 401 | 403) {
            let reason = format!("no access token: PayPal answered with HTTP status {}", answer.status);
            return Err(TokenError::Refused(reason));
        }
        let body: Option<Body> = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
        let Some(body) = body else {
            let reason = format!("no access token in an answer with HTTP status {}", answer.status);
            return Err(TokenError::Unreachable(reason));
        };
        let lifetime = Duration::from_secs(body.expires_in).min(LIFETIME_MAX);
        let fetched = Current {
            token: Zeroizing::new(body.access_token),
            renewed_at: asked_at.plus(lifetime * USED_PERCENT / 100),
            until: asked_at.plus(lifetime),
        };
        Ok((fetched, Granted { app_id: body.app_id }))
    }
}
