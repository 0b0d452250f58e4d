//! Somebody who uses the console as a browser without scripts does: keeps a cookie, sends forms with what the page gave.

use std::collections::HashMap;

use super::House;
use super::client::{Answer, exchange};

/// A browser.
pub struct Browser {
    pub url: String,
    /// `name=value` of the session's cookie.
    pub cookie: Option<String>,
    /// What forms of the session carry.
    pub csrf: String,
    http: reqwest::Client,
}

impl Browser {
    /// Not logged in.
    pub fn new(house: &House) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { url: house.admin_url.clone(), cookie: None, csrf: String::new(), http }
    }

    /// Logged in with the gateway's token.
    pub async fn logged_in(house: &House) -> Self {
        let mut browser = Self::new(house);
        let answer = browser.log_in(&house.admin_token).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/console"), "{}", answer.text);
        browser
    }

    /// Sends the login's form; keeps the session if there is one.
    pub async fn log_in(&mut self, token: &str) -> Answer {
        let answer = self.send_form("/console/login", &[("token", token)], HashMap::new()).await;
        if answer.status == 303 {
            self.cookie = answer.header("set-cookie").split(';').next().map(str::to_owned);
            let page = self.get("/console").await;
            let (_, rest) = page.text.split_once("name=\"csrf\" value=\"").expect("a page has a form");
            self.csrf = rest.split('"').next().unwrap_or_default().to_owned();
        }
        answer
    }

    /// Asks for a page.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, HashMap::new()).await
    }

    /// Asks for a page that must be there.
    #[track_caller]
    pub fn page(&self, path: &str) -> impl Future<Output = String> {
        let asked = self.send("GET", path, None, HashMap::new());
        let path = path.to_owned();
        async move {
            let answer = asked.await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert!(answer.header("content-type").starts_with("text/html"), "{path}");
            answer.text
        }
    }

    /// Sends a form of a page.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = [("csrf", self.csrf.as_str())];
        self.send_form(path, &[&csrf, fields].concat(), HashMap::new()).await
    }

    /// Sends a form as it is, with these headers.
    pub async fn send_form(&self, path: &str, fields: &[(&str, &str)], headers: HashMap<String, String>) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", path, Some(body), headers).await
    }

    /// Sends anything.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        mut headers: HashMap<String, String>,
    ) -> impl Future<Output = Answer> {
        if let Some(cookie) = &self.cookie {
            headers.insert("cookie".to_owned(), cookie.clone());
        }
        if body.is_some() {
            headers.entry("content-type".to_owned()).or_insert_with(|| "application/x-www-form-urlencoded".to_owned());
        }
        let (http, url) = (self.http.clone(), self.url.clone());
        let (method, path) = (method.to_owned(), path.to_owned());
        async move { exchange(&http, &url, &method, &path, body.map(String::into_bytes), headers).await }
    }
}
