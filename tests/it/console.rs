//! The console as a browser without scripts sees it: who gets in, what forms may do, and that nothing that somebody has
//! written becomes part of a page.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use crate::support::{Browser, House, LogBook};

const SECTIONS: [&str; 8] = [
    "/console",
    "/console/payments",
    "/console/pre-auths",
    "/console/webhooks",
    "/console/limits",
    "/console/routing",
    "/console/audit",
    "/console/settings",
];

fn headers(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_anything_without_logging_in() {
    let house = House::start().await;
    let mut browser = Browser::new(&house);
    for cookie in [None, Some("tollgate_console=x"), Some("tollgate_console_80=00; a=b")] {
        browser.cookie = cookie.map(str::to_owned);
        for path in SECTIONS.into_iter().chain(["/console/nothing", "/console/live"]) {
            let answer = browser.get(path).await;
            let next: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
            let login = if path == "/console" { String::new() } else { format!("?next={next}") };
            assert_eq!((answer.status, answer.header("location")), (303, &*format!("/console/login{login}")), "{path}");
            assert_eq!(answer.text, "", "{path}");
            let sent = browser.post(path, &[]).await;
            assert_eq!((sent.status, sent.header("location")), (303, "/console/login"), "{path}");
        }
        let refused = browser.send("GET", "/console/live", None, headers(&[("accept", "text/event-stream")])).await;
        refused.expect(401, "UNAUTHENTICATED");
    }
    let login = browser.page("/console/login?next=/console/payments%3Fstatus%3Dfailed").await;
    assert!(login.contains("value=\"/console/payments?status=failed\"") && login.contains("type=\"password\""));
    assert!(!browser.page("/console/login?next=https://evil.example/").await.contains("evil"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_a_session_that_can_be_ended() {
    let house = House::start().await;
    let mut browser = Browser::new(&house);
    for wrong in ["", " ", "x", &house.admin_token[1..]] {
        let refused = browser.log_in(wrong).await;
        assert_eq!((refused.status, refused.header("set-cookie")), (403, ""), "{wrong}");
        assert!(refused.text.contains("not a token") && !refused.text.contains(&house.admin_token));
    }
    let answer = browser.log_in(&house.admin_token).await;
    let cookie = answer.header("set-cookie");
    let port = house.admin_url.rsplit(':').next().unwrap();
    assert!(cookie.starts_with(&format!("tollgate_console_{port}=")), "{cookie}");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/console"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(&house.admin_token), "{cookie}");
    let page = browser.page("/console").await;
    assert!(
        page.contains("SANDBOX") && page.contains("<strong>admin</strong>") && page.contains(env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(browser.get("/console/login").await.header("location"), "/console", "logged in already");
    // Who logs in where something was asked for comes to it.
    let fields = [("token", house.admin_token.as_str()), ("next", "/console/audit")];
    let second = browser.send_form("/console/login", &fields, HashMap::new()).await;
    assert_eq!(second.header("location"), "/console/audit");
    assert_eq!(browser.get("/console").await.status, 303, "the session that was logged in again has ended");
    browser.log_in(&house.admin_token).await;
    let gone = browser.post("/console/logout", &[]).await;
    assert_eq!((gone.status, gone.header("location")), (303, "/console/login"));
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(browser.get("/console").await.status, 303, "the cookie opens nothing any more");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_count_for_their_address() {
    let house = House::start_with(|config| {
        config.limits.client_address.enabled = true;
        config.limits.client_address.exempt_networks = Vec::new();
        config.limits.client_address.failed_authentications_per_minute = 3;
    })
    .await;
    let mut browser = Browser::new(&house);
    for _ in 0..3 {
        assert_eq!(browser.log_in("").await.status, 403, "an empty form guesses nothing");
        assert_eq!(browser.log_in("at_wrong").await.status, 403);
    }
    let blocked = browser.log_in(&house.admin_token).await;
    assert_eq!((blocked.status, blocked.header("set-cookie")), (429, ""));
    assert!(blocked.text.contains("Too many failed authentications"), "{}", blocked.text);
    house.admin("GET", "/admin/v1/merchants", None).await.expect(429, "RATE_LIMIT_EXCEEDED");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_is_for_tls_alone_where_a_proxy_says_that_there_is_tls() {
    let house = House::start_with(|config| config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let browser = Browser::new(&house);
    let fields = [("token", house.admin_token.as_str())];
    for (proto, is_secure) in [("https", true), ("http", false), ("https, http", false)] {
        let forwarded = headers(&[("x-forwarded-proto", proto), ("x-forwarded-for", "192.0.2.1")]);
        let answer = browser.send_form("/console/login", &fields, forwarded).await;
        assert_eq!(answer.status, 303);
        assert_eq!(answer.header("set-cookie").contains("; Secure"), is_secure, "{proto}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_others_do_nothing() {
    let house = House::start().await;
    let browser = Browser::logged_in(&house).await;
    let other = Browser::logged_in(&house).await;
    let own = [("csrf", browser.csrf.as_str())];
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let forged: [(Fields<'_>, HashMap<String, String>); 6] = [
        (&[], HashMap::new()),
        (&[("csrf", "")], HashMap::new()),
        (&[("csrf", &other.csrf)], HashMap::new()),
        (&own, headers(&[("origin", "https://evil.example")])),
        (&own, headers(&[("sec-fetch-site", "cross-site")])),
        (&own, headers(&[("content-type", "text/plain")])),
    ];
    for (fields, headers) in forged {
        let answer = browser.send_form("/console/logout", fields, headers.clone()).await;
        assert_eq!(answer.status, 400, "{fields:?} {headers:?}");
        assert!(answer.text.contains("That can&#39;t be done"), "{}", answer.text);
    }
    browser.page("/console").await;
    let login = [("token", house.admin_token.as_str())];
    let led_here = headers(&[("origin", "https://evil.example")]);
    let refused = Browser::new(&house).send_form("/console/login", &login, led_here).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (400, ""));
    let fine = headers(&[("origin", &house.admin_url), ("sec-fetch-site", "same-origin")]);
    assert_eq!(browser.send_form("/console/logout", &own, fine).await.status, 303);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_kept_from_scripts_frames_and_caches() {
    let house = House::start().await;
    let browser = Browser::logged_in(&house).await;
    for path in SECTIONS.into_iter().chain(["/console/login", "/console/nothing", "/console/payments?x=1"]) {
        let answer = browser.get(path).await;
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        for inline in [" style=", " onclick=", " onload=", "javascript:", "<style"] {
            assert!(!answer.text.contains(inline), "{path} has {inline}");
        }
    }
    let missing = browser.get("/console/nothing").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("NOT_FOUND") && missing.text.contains("Log out"), "{}", missing.text);
    let elsewhere = browser.send("GET", "/console", None, headers(&[("host", "evil.example")])).await;
    elsewhere.expect(403, "FORBIDDEN");
    assert_eq!(browser.get("/console/").await.header("location"), "/console");
    // Files are for everybody, and for good.
    let page = Browser::new(&house).page("/console/login").await;
    let (_, rest) = page.split_once("href=\"/console/assets/").unwrap();
    let folder = rest.split('/').next().unwrap();
    for (file, content_type) in
        [("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg")]
    {
        let path = format!("/console/assets/{folder}/{file}");
        let first = Browser::new(&house).get(&path).await;
        assert!(first.status == 200 && first.header("content-type").starts_with(content_type), "{file}");
        assert!(first.header("cache-control").contains("immutable") && !first.text.is_empty(), "{file}");
        let again = headers(&[("if-none-match", first.header("etag"))]);
        assert_eq!(Browser::new(&house).send("GET", &path, None, again).await.status, 304, "{file}");
    }
    assert_eq!(Browser::new(&house).get("/console/assets/0/console.css").await.status, 404);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_has_written_is_text_on_every_page() {
    const EVIL: &str = "<script>alert('x')</script>\"'&";
    let house = House::start().await;
    let shop = house.merchant_with(json!({ "name": EVIL, "tier": "business" })).await;
    let paid = shop
        .pay(
            "ORDER-1",
            5_000,
            json!({ "description": EVIL, "metadata": { "note": EVIL }, "payment_token": "tok_visa" }),
        )
        .await;
    assert_eq!(paid.status, 201, "{}", paid.text);
    let named = json!({ "name": "<img src=x onerror=alert(1)>" });
    house
        .admin("PATCH", &format!("/admin/v1/merchants/{}", shop.merchant_id), Some(named))
        .await
        .expect(200, "SUCCESS");
    let browser = Browser::logged_in(&house).await;
    let one = format!("/console/payments/{}", paid.data("payment_no"));
    let query: String = url::form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    let mut paths: Vec<String> = SECTIONS.into_iter().map(str::to_owned).collect();
    paths.extend([one, format!("/console/audit?actor={query}"), format!("/console/search?q={query}")]);
    for path in paths {
        let text = browser.get(&path).await.text;
        assert!(!text.contains("<script>") && !text.contains("<img src=x"), "{path}");
    }
    let audit = browser.page("/console/audit").await;
    assert!(audit.contains("merchant.update") && audit.contains("&#60;img src=x onerror=alert(1)&#62;"), "{audit}");
    let narrowed = browser.page("/console/audit?action=merchant.create&limit=1&verify=true").await;
    assert!(!narrowed.contains("<code>merchant.update</code>") && narrowed.contains("intact"));
    assert_eq!(browser.get("/console/audit?limit=1").await.text.matches("rel=\"next\"").count(), 1);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_said_once_by_the_page_that_somebody_sees() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let browser = Browser::logged_in(&house).await;
    let at = format!("/console/limits/{}", shop.merchant_id);
    let done = browser.post(&format!("{at}/tier"), &[("tier", "business")]).await;
    assert_eq!((done.status, done.header("location")), (303, at.as_str()));
    const SAID: &str = "The tier is business now.";
    // Nobody sees these, or not where it was done.
    browser.send("HEAD", &at, None, HashMap::new()).await;
    for (name, value) in [("accept", "text/event-stream"), ("sec-purpose", "prefetch;prerender")] {
        assert!(!browser.send("GET", &at, None, headers(&[(name, value)])).await.text.contains(SAID), "{name}");
    }
    let mut news = News::listen(&browser, "/console/live").await;
    assert!(news.has("\"id\":\"tiles\"").await);
    for path in ["/console/assets/0/console.css", "/console", "/console/limits", "/console/nothing"] {
        assert!(!browser.get(path).await.text.contains(SAID), "{path}");
    }
    assert!(browser.page(&at).await.contains(SAID));
    assert!(!browser.page(&at).await.contains(SAID), "it is said once");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_form_after_the_session_has_ended_is_told_and_comes_back_to_the_page() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let mut browser = Browser::logged_in(&house).await;
    let page = browser.page("/console").await;
    assert!(page.contains(" at the latest</span>") && !page.contains("Log in again"), "{page}");
    let login = Browser::new(&house).page("/console/login").await;
    assert!(login.contains("after 60 minutes") && login.contains("12 hours after logging in"), "{login}");
    assert_eq!(browser.get("/console/login?again=true").await.status, 200, "who wants to can begin anew");
    browser.post("/console/logout", &[]).await;
    let at = format!("/console/limits/{}/tier", shop.merchant_id);
    let fields = [("csrf", browser.csrf.as_str()), ("tier", "business")];
    let encoded: String = url::form_urlencoded::byte_serialize(at.as_bytes()).collect();
    for (referer, next) in [
        (format!("{}{at}", house.admin_url), format!("next={encoded}&")),
        (String::from("https://evil.example/x"), String::new()),
        (String::from("https://evil.example/console//evil.example"), String::new()),
    ] {
        let sent = browser.send_form(&at, &fields, headers(&[("referer", &referer)])).await;
        assert_eq!(sent.header("location"), format!("/console/login?{next}ended=form"), "{referer}");
    }
    let referer = || headers(&[("referer", &format!("{}{at}", house.admin_url))]);
    let out_again = browser.send_form("/console/logout", &[("csrf", browser.csrf.as_str())], referer()).await;
    assert_eq!(out_again.header("location"), "/console/login", "that is done");
    let without_cookie = Browser::new(&house).send_form(&at, &fields, referer()).await;
    assert_eq!(without_cookie.header("location"), format!("/console/login?next={encoded}&ended=form"));
    let asked = browser.page(&format!("/console/login?next={encoded}&ended=form")).await;
    assert!(asked.contains("was not done") && asked.contains(&format!("value=\"{at}\"")), "{asked}");
    assert!(browser.get(&at).await.header("location").ends_with("ended=page"));
    assert!(browser.page("/console/login?ended=page").await.contains("The session has ended."));
    assert!(!browser.page("/console/login?ended=%3Cb%3Eyou").await.contains("you"), "only its own words are said");
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-tier"), "starter", "nothing was done");
    // A page of an earlier session is no dead end.
    let stale = browser.csrf.clone();
    browser.log_in(&house.admin_token).await;
    let referer = format!("{}{at}", house.admin_url);
    let refused = browser.send_form(&at, &[("csrf", &stale)], headers(&[("referer", &referer)])).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains(&format!("href=\"{at}\">Back to the page")), "{}", refused.text);
    house.stop().await;
}

/// What a page is sent while somebody looks at it.
struct News {
    response: reqwest::Response,
    text: String,
}

impl News {
    async fn listen(browser: &Browser, path: &str) -> Self {
        let request = crate::support::http_client()
            .get(format!("{}{path}", browser.url))
            .timeout(Duration::from_secs(60))
            .header("accept", "text/event-stream")
            .header("cookie", browser.cookie.clone().unwrap());
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { response, text: String::new() }
    }

    /// Reads on until something was sent; `false` when it ends before.
    async fn has(&mut self, wanted: &str) -> bool {
        while !self.text.contains(wanted) {
            let part = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            match part.expect("something is sent every few seconds").unwrap() {
                Some(part) => self.text.push_str(std::str::from_utf8(&part).unwrap()),
                None => return false,
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_told_what_changes_until_its_session_ends() {
    let house = House::start().await;
    let shop = house.merchant("business").await;
    let browser = Browser::logged_in(&house).await;
    assert!(browser.page("/console").await.contains("data-live=\"/console/live?minutes=60\""));
    for wrong in ["minutes=181", "minutes=x", "currency=dollars"] {
        assert_eq!(browser.get(&format!("/console?{wrong}")).await.status, 400, "{wrong}");
    }
    let yen = browser.page("/console?currency=JPY").await;
    assert!(yen.contains("data-live=\"/console/live?minutes=60&#38;currency=JPY\""), "{yen}");
    let mut news = News::listen(&browser, "/console/live?minutes=15").await;
    for place in ["tiles", "recent", "channels", "money", "payments"] {
        assert!(news.has(&format!("\"id\":\"{place}\"")).await, "{}", news.text);
    }
    assert!(news.text.contains("No payments yet."), "{}", news.text);
    let paid = shop.pay("ORDER-1", 5_000, json!({ "payment_token": "tok_visa" })).await;
    let before = news.text.len();
    assert!(news.has(paid.data("payment_no")).await, "{}", news.text);
    assert!(!news.text[before..].contains("event: over"));
    let other = Browser::logged_in(&house).await;
    assert_eq!(browser.post("/console/logout", &[]).await.status, 303);
    assert!(news.has("event: over").await && !news.has("never sent").await, "it ends with its session");
    let mut others = News::listen(&other, "/console/live").await;
    assert!(others.has(paid.data("payment_no")).await, "{}", others.text);
    let stopping = tokio::spawn(house.stop());
    assert!(!others.has("never sent").await, "it ends when the gateway stops");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_has_its_page() {
    let house = House::start().await;
    let browser = Browser::logged_in(&house).await;
    let overview = browser.page("/console").await;
    for path in SECTIONS {
        let page = browser.page(path).await;
        assert!(page.contains(&format!("<a href=\"{path}\" aria-current=\"page\">")), "{path} knows where it is");
        assert!(overview.contains(&format!("<a href=\"{path}\"")), "{path} is in the navigation");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_adds_up_what_was_counted() {
    let house = House::start().await;
    let before = browser_page(&house).await;
    assert!(before.contains("0 in the last") && before.contains("<dd class=\"muted\">of 0 in the last"), "{before}");
    let shop = house.merchant("business").await;
    for (order_no, token) in [("A", "tok_visa"), ("B", "tok_visa"), ("C", "tok_declined")] {
        let paid = shop.pay(order_no, 1_000, json!({ "payment_token": token, "channel": "stripe" })).await;
        assert_eq!(paid.status, 201, "{}", paid.text);
    }
    let tight = house.merchant_limited(json!({ "per_hour": 1 })).await;
    for _ in 0..3 {
        tight.get("/api/v1/payments").await;
    }
    let page = browser_page(&house).await;
    for words in [
        "3 in the last",
        "<dd class=\"value\">66.7 %</dd><dd class=\"muted\">of 3 in the last",
        "<dt>Refused by limits</dt><dd class=\"value\">2</dd>",
        "<dt>Taken today</dt><dd class=\"value\">20.00 USD</dd><dd class=\"muted\">2 payments</dd>",
        "<li><svg viewBox=\"0 0 10 10\"",
        "Money taken a minute, USD. In the last minute",
    ] {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(!page.contains("99 % of 0"), "commits are counted: {page}");
    house.stop().await;
}

async fn browser_page(house: &House) -> String {
    Browser::logged_in(house).await.page("/console").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_console_refuses_has_its_code_in_the_log_and_a_wrong_token_is_warned_of() {
    let log = LogBook::open();
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let browser = Browser::new(&house);
    let asked = |id: &str| headers(&[("x-request-id", id)]);
    let wrong = browser.send_form("/console/login", &[("token", "at_nobodys_own")], asked("console-wrong")).await;
    assert_eq!(wrong.status, 403);
    let browser = Browser::logged_in(&house).await;
    assert_eq!(browser.send("GET", "/console/payments/PY404", None, asked("console-missing")).await.status, 404);
    let path = format!("/console/limits/{}/tier", shop.merchant_id);
    let fields = [("csrf", browser.csrf.as_str()), ("tier", "nonsense")];
    assert_eq!(browser.send_form(&path, &fields, asked("console-refused")).await.status, 303);
    house.stop().await;
    let logged = log.text();
    let line = |id: &str, what: &str| {
        let found = logged.lines().find(|line| line.contains(id) && line.contains(what));
        found.unwrap_or_else(|| panic!("{id} {what}")).to_owned()
    };
    for (id, code) in
        [("console-wrong", "UNAUTHENTICATED"), ("console-missing", "NOT_FOUND"), ("console-refused", "INVALID_REQUEST")]
    {
        assert!(line(id, "duration_us").contains(&format!("error=\"{code}\"")), "{}", line(id, "duration_us"));
    }
    let warned = line("console-wrong", "wrong token");
    assert!(warned.contains("WARN") && warned.contains("127.0.0.1"), "{warned}");
    assert!(!logged.contains("at_nobodys_own"));
}
