//! Who may use the admin listener: whoever has one of the tokens and called this server by a name that is its own.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::api::auth::{bearer_token, only_value};
use crate::api::error::ApiError;
use crate::gateway::admin_tokens::AdminToken;

/// Checks requests; holds no token, only hashes.
pub(super) struct AccessCheck {
    /// With the tokens' names.
    token_hashes: Vec<(String, [u8; 32])>,
    listens_on: IpAddr,
    /// Whether a name is one of its own, besides `localhost`.
    is_own_name: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl AccessCheck {
    /// For these tokens, on a listener at `address` that may also be called by the names of which `is_own_name` says so.
    pub(super) fn new(
        tokens: &[AdminToken],
        address: SocketAddr,
        is_own_name: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        // An empty token would let everybody in who sends none.
        let tokens = tokens.iter().filter(|token| !token.secret.is_empty());
        Self {
            token_hashes: tokens
                .map(|token| (token.name.clone(), Sha256::digest(token.secret.as_bytes()).into()))
                .collect(),
            listens_on: address.ip().to_canonical(),
            is_own_name: Box::new(is_own_name),
        }
    }

    /// Lets the request through, or not; says the name of its token.
    ///
    /// # Errors
    /// [`ApiError::HostNotAllowed`], [`ApiError::OperatorUnauthenticated`].
    pub(super) fn check(&self, head: &Parts) -> Result<&str, ApiError> {
        self.check_host(head)?;
        self.name_of(bearer_token(&head.headers).unwrap_or_default())
    }

    /// The name of a token.
    ///
    /// # Errors
    /// [`ApiError::OperatorUnauthenticated`] when it is none.
    pub(super) fn name_of(&self, token: &str) -> Result<&str, ApiError> {
        let hash = Sha256::digest(token.as_bytes());
        // All are compared, so that the time says nothing about which was close.
        let equal: Vec<Choice> = self.token_hashes.iter().map(|(_, known)| known.ct_eq(hash.as_slice())).collect();
        let place = equal.into_iter().position(bool::from).ok_or(ApiError::OperatorUnauthenticated)?;
        self.token_hashes.get(place).map(|(name, _)| name.as_str()).ok_or(ApiError::OperatorUnauthenticated)
    }

    /// A web page can make a browser on this machine send requests here under a name that its author controls (DNS
    /// rebinding). Such a request carries that name.
    ///
    /// # Errors
    /// [`ApiError::HostNotAllowed`].
    pub(super) fn check_host(&self, head: &Parts) -> Result<(), ApiError> {
        let named = match head.uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => only_value(&head.headers, &HOST).and_then(|host| host.parse::<Authority>().ok()),
        };
        let is_own = named.is_some_and(|authority| self.is_own(authority.host()));
        if is_own { Ok(()) } else { Err(ApiError::HostNotAllowed) }
    }

    fn is_own(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            // Who listens on all addresses can't list them, and an address is no name that could be rebound.
            return address.is_loopback() || address == self.listens_on || self.listens_on.is_unspecified();
        }
        let name = host.trim_end_matches('.');
        name.eq_ignore_ascii_case("localhost") || (self.is_own_name)(name)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use axum::http::header::AUTHORIZATION;

    use super::*;

    fn access(listens_on: &str) -> AccessCheck {
        let tokens = ["tok-1", "tok-2", ""];
        let tokens =
            tokens.map(|secret| AdminToken { name: format!("name of {secret}"), secret: String::from(secret) });
        AccessCheck::new(&tokens, listens_on.parse().unwrap(), |name| name.eq_ignore_ascii_case("Tollgate.internal"))
    }

    fn head(host: &str, authorization: Option<&str>) -> Parts {
        let mut request = Request::get("/admin/v1/merchants").header(HOST, host);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn any_of_the_tokens_opens() {
        let access = access("127.0.0.1:8081");
        for value in ["Bearer tok-1", "bearer tok-2", "Bearer  tok-1 "] {
            assert!(access.check(&head("localhost:8081", Some(value))).is_ok(), "{value}");
        }
        for name in ["tok-1", "tok-2"] {
            let value = format!("Bearer {name}");
            assert_eq!(access.check(&head("localhost", Some(&value))).unwrap(), format!("name of {name}"));
        }
    }

    #[test]
    fn nothing_else_does() {
        let access = access("127.0.0.1:8081");
        for value in ["Bearer", "Bearer ", "Bearer tok-3", "Bearer tok-1x", "Basic tok-1", "tok-1", "Bearer TOK-1"] {
            let refused = access.check(&head("localhost", Some(value)));
            assert!(matches!(refused, Err(ApiError::OperatorUnauthenticated)), "{value}");
        }
        assert!(matches!(access.check(&head("localhost", None)), Err(ApiError::OperatorUnauthenticated)));
        let nobody = AccessCheck::new(&[], "127.0.0.1:1".parse().unwrap(), |_| false);
        assert!(nobody.check(&head("localhost", Some("Bearer "))).is_err());
    }

    #[test]
    fn the_host_must_be_this_server() {
        let access = access("192.0.2.7:8081");
        for host in
            ["localhost", "LOCALHOST:8081", "localhost.", "127.0.0.1:8081", "127.1.2.3", "[::1]:8081", "192.0.2.7"]
        {
            assert!(access.check_host(&head(host, None)).is_ok(), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "192.0.2.8", "[2001:db8::1]", "127.0.0.1.evil.example"]
        {
            assert!(access.check_host(&head(host, None)).is_err(), "{host}");
        }
        let (no_host, ()) = Request::get("/admin/v1/merchants").body(()).unwrap().into_parts();
        assert!(access.check_host(&no_host).is_err());
        let (absolute, ()) = Request::get("http://evil.example/admin/v1/merchants")
            .header(HOST, "localhost")
            .body(())
            .unwrap()
            .into_parts();
        assert!(access.check_host(&absolute).is_err(), "the target's authority stands above the header");
    }

    #[test]
    fn names_of_its_own_are_taken_with_any_port() {
        let access = access("192.0.2.7:8081");
        for host in ["tollgate.internal", "TOLLGATE.internal:443", "tollgate.internal."] {
            assert!(access.check_host(&head(host, None)).is_ok(), "{host}");
        }
        for host in ["tollgate", "x.tollgate.internal", "tollgate.internal.evil.example"] {
            assert!(access.check_host(&head(host, None)).is_err(), "{host}");
        }
    }

    #[test]
    fn who_listens_on_all_addresses_takes_any_address_but_no_name() {
        let access = access("0.0.0.0:8081");
        assert!(access.check_host(&head("10.0.0.5:8081", None)).is_ok());
        assert!(access.check_host(&head("evil.example", None)).is_err());
    }
}
