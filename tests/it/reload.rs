//! A configuration that changes while the gateway runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tollgate::config::Config;
use tollgate::domain::audit::Operator;

use crate::support::{House, eventually, http_client};

fn by() -> Operator {
    Operator::process("signal")
}

/// The configuration that the gateway was opened with, changed.
fn changed(house: &House, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = house.gateway.config().clone();
    change(&mut config);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_channels_change_at_once_and_the_rest_is_named() {
    let house = House::start_with_two(|_| {}).await;
    let shop = house.merchant("starter").await;
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "10");
    let china = json!({ "country": "CN" });
    assert_eq!(shop.pay("O-1", 100, china.clone()).await.data("channel"), "alipay");

    let config = changed(&house, |config| {
        let starter = config.tiers.get_mut("starter").unwrap();
        (starter.per_second, starter.burst) = (30, 60);
        config.channels.get_mut("alipay").unwrap().enabled = false;
        config.server.body_max_bytes = 2_048;
    });
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    assert_eq!(reloaded.applied, ["channels.alipay.enabled", "tiers.starter.burst", "tiers.starter.per_second"]);
    assert_eq!(reloaded.needs_restart, ["server.body_max_bytes"]);
    // The operator sees it before the merchant has sent anything.
    let limits = house.admin("GET", &format!("/admin/v1/merchants/{}/limits", shop.merchant_id), None).await;
    assert_eq!(limits.body["data"]["active"], true, "{}", limits.text);
    assert_eq!((&limits.body["data"]["per_second"], &limits.body["data"]["burst"]), (&json!(30), &json!(60)));
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "30");
    assert_eq!(shop.pay("O-2", 100, china.clone()).await.data("channel"), "stripe");

    let again = house.gateway.reload(&config, &by()).await.unwrap();
    assert!(again.applied.is_empty(), "{again:?}");
    assert_eq!(again.needs_restart, ["server.body_max_bytes"]);

    let back = house.gateway.reload(&changed(&house, |_| {}), &by()).await.unwrap();
    assert_eq!((back.applied.len(), back.needs_restart.len()), (3, 0));
    assert_eq!(shop.get("/api/v1/limits").await.header("x-ratelimit-limit"), "10");
    assert_eq!(shop.pay("O-3", 100, china).await.data("channel"), "alipay");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channel_that_costs_are_compared_with_changes_at_once() {
    let house = House::start().await;
    let shop = house.merchant("premium").await;
    assert_eq!(shop.pay("O-1", 10_000, json!({ "country": "CN" })).await.data("channel"), "alipay");
    let compared = async |wanted: &str| {
        eventually("another channel to compare with", || async {
            let costs = house.admin("GET", "/admin/v1/costs", None).await.expect(200, "SUCCESS");
            let is_wanted = costs.data("baseline_channel") == wanted && costs.body["data"]["complete"] == true;
            is_wanted.then(|| costs.items()[0]["baseline_fees"].as_i64().unwrap())
        })
        .await
    };
    let before = compared("stripe").await;
    let config = changed(&house, |config| config.routing.baseline_channel = Some(String::from("alipay")));
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    assert_eq!((reloaded.applied, reloaded.needs_restart), (vec![String::from("routing.baseline_channel")], vec![]));
    let after = compared("alipay").await;
    assert!(after < before, "{after} of {before}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_longer_fits_a_new_file_is_told_with_it() {
    let house = House::start().await;
    let default = json!({ "default_channel": "alipay" });
    house.admin("PUT", "/admin/v1/routing", Some(default)).await.expect(200, "SUCCESS");
    let config = changed(&house, |config| config.channels.get_mut("alipay").unwrap().enabled = false);
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    let unfit: Vec<&str> = reloaded.unfit.iter().map(|unfit| unfit.what.as_str()).collect();
    assert_eq!(unfit, ["routing.default_channel"]);
    assert!(house.gateway.reload(&changed(&house, |_| {}), &by()).await.unwrap().unfit.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn a_change_that_is_cut_off_is_made_whole() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let config = changed(&house, |config| {
        let starter = config.tiers.get_mut("starter").unwrap();
        (starter.per_second, starter.burst) = (30, 60);
        config.routing.smart = !config.routing.smart;
    });
    let by = by();
    {
        let mut reload = std::pin::pin!(house.gateway.reload(&config, &by));
        // On one thread nobody can answer before this returns.
        assert!(futures_util::poll!(reload.as_mut()).is_pending());
    }
    eventually("the limits that follow the routing", || async {
        let limits = shop.get("/api/v1/limits").await;
        (limits.header("x-ratelimit-limit") == "30").then_some(())
    })
    .await;
    assert!(house.gateway.reload(&config, &by).await.unwrap().applied.is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_does_not_fit_changes_nothing() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let config = changed(&house, |config| {
        config.tiers.get_mut("starter").unwrap().burst = 40;
        // Needs a restart, and the default channel needs it at once.
        let new = config.channels["stripe"].clone();
        config.channels.insert(String::from("second"), new);
        config.routing.default_channel = String::from("second");
    });
    let refused = house.gateway.reload(&config, &by()).await.unwrap_err();
    assert!(refused.to_string().contains("routing.default_channel"), "{refused}");
    let limits = shop.get("/api/v1/limits").await;
    assert_eq!(limits.body["data"]["windows"][0]["limit"], 20, "{}", limits.text);
    house.stop().await;
}

/// What is asked for anew each time goes by the new figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_for_webhooks_changes_at_once() {
    let house = House::start().await;
    let shop = house.merchant("starter").await;
    let create = async |path: &str| {
        let endpoint = json!({ "url": format!("https://shop.example/{path}") });
        shop.post("/api/v1/webhooks/endpoints", endpoint).await
    };
    let first = create("1").await.expect(201, "SUCCESS");
    assert_eq!(first.body["data"]["max_attempts"], 13);
    let config = changed(&house, |config| {
        (config.webhook.endpoints_max, config.webhook.max_attempts) = (2, 5);
        config.webhook.timeout_s = 7;
    });
    let reloaded = house.gateway.reload(&config, &by()).await.unwrap();
    assert_eq!(reloaded.applied, ["webhook.endpoints_max", "webhook.max_attempts"]);
    assert_eq!(reloaded.needs_restart, ["webhook.timeout_s"]);
    assert_eq!(create("2").await.expect(201, "SUCCESS").body["data"]["max_attempts"], 5);
    assert_ne!(create("3").await.status, 201, "there are two");
    let shown = house.admin("GET", "/admin/v1/config", None).await.expect(200, "SUCCESS").body["data"].clone();
    assert_eq!(
        (&shown["config"]["webhook"]["endpoints_max"], &shown["config"]["webhook"]["timeout_s"]),
        (&json!(2), &json!(30))
    );
    assert_eq!(
        (&shown["needs_restart"], &shown["last_reload"]["by"]),
        (&json!(["webhook.timeout_s"]), &json!("signal"))
    );
    house.stop().await;
}

/// A `serve` with a configuration file, and what it logs.
struct Serve {
    process: Child,
    admin_url: String,
    logged: Arc<Mutex<Vec<String>>>,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const TOKEN: &str = "operator-of-the-test";

impl Serve {
    async fn start(config: &Path) -> Self {
        let mut process = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let logged = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log = Arc::clone(&logged);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line)));
        let mut serve = Self { process, admin_url: String::new(), logged };
        serve.admin_url = eventually("the listeners", || async {
            let ready = serve.lines("ready").pop()?;
            let line: serde_json::Value = serde_json::from_str(&ready).ok()?;
            Some(format!("http://{}", line["admin_listen"].as_str()?))
        })
        .await;
        serve
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> (u16, String) {
        let request = http_client().post(format!("{}{path}", self.admin_url)).bearer_auth(TOKEN).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// The lines with this message.
    fn lines(&self, message: &str) -> Vec<String> {
        let message = format!("\"message\":\"{message}\"");
        self.logged.lock().unwrap().iter().filter(|line| line.contains(&message)).cloned().collect()
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        http_client().get(format!("{}{path}", self.admin_url)).bearer_auth(TOKEN)
    }

    /// Waits until a metric has this value.
    async fn metric(&self, name: &str, value: &str) {
        let line = format!("tollgate_config_{name} {value}");
        eventually(&line, || async {
            let text = self.get("/metrics").send().await.unwrap().text().await.unwrap();
            text.lines().any(|found| found == line).then_some(())
        })
        .await;
    }

    /// What `check-config --diff` says of it, and its exit code.
    fn diff(&self, more: &[&str]) -> (i32, String) {
        let mut command = Command::new(BINARY);
        command.args(["check-config", "--diff", "--admin-url", &self.admin_url, "--admin-token", TOKEN]).args(more);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

/// What people do with a file: edit it, break it, mend it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_in_force_without_a_signal_and_a_broken_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let base = format!(
        "[reload]\nsettle_ms = 20\n[storage]\ndir = {:?}\nballast_bytes = 0\nsegment_bytes = 4194304\ngroup_bytes_max = 1048576\n",
        directory.path().join("data")
    );
    // As editors do it.
    let put = |text: &str| {
        let beside = directory.path().join("config.toml.new");
        std::fs::write(&beside, format!("{base}{text}")).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    };
    put("");
    let serve = Serve::start(&path).await;
    serve.metric("reloads_total{result=\"success\"}", "0").await;
    serve.metric("reloads_total{result=\"failure\"}", "0").await;
    serve.metric("last_reload_successful", "1").await;
    serve.metric("last_reload_timestamp_seconds", "NaN").await;
    serve.metric("needs_restart", "0").await;
    assert_eq!(serve.diff(&[]), (0, String::from("no difference\n")));
    let by_name = || async {
        let request = serve.get("/healthz").header("host", "tollgate.test");
        request.send().await.unwrap().status().as_u16()
    };
    assert_ne!(by_name().await, 200);

    let wanted = "[server]\nbody_max_bytes = 2048\n[admin]\nhosts = [\"tollgate.test\"]\n[tiers.starter]\nburst = 30\n";
    let other = directory.path().join("wanted.toml");
    std::fs::write(&other, format!("{base}{wanted}")).unwrap();
    let (code, text) = serve.diff(&["--config", other.to_str().unwrap()]);
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        vec!["admin.hosts", "[]", "[\"tollgate.test\"]", "at", "once"],
        vec!["server.body_max_bytes", "65536", "2048", "after", "a", "restart"],
        vec!["tiers.starter.burst", "20", "30", "at", "once"],
    ];
    assert_eq!((code, rows), (1, expected.to_vec()), "{text}");
    serve.metric("reloads_total{result=\"success\"}", "0").await;

    put(wanted);
    serve.metric("reloads_total{result=\"success\"}", "1").await;
    serve.metric("needs_restart", "1").await;
    assert_eq!(by_name().await, 200);
    let (code, text) = serve.diff(&[]);
    assert!(code == 1 && text.contains("server.body_max_bytes") && !text.contains("tiers"), "{code} {text}");
    let audit = serve.get("/admin/v1/audit").send().await.unwrap().text().await.unwrap();
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let newest = &audit["data"]["items"][0];
    assert_eq!((&newest["action"], &newest["actor"]), (&json!("config.reload"), &json!("file")), "{audit}");

    put("[server]\nbody_max_bytes = 1\n");
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    serve.metric("last_reload_successful", "0").await;
    assert_eq!(by_name().await, 200, "what was in force stays");
    assert_eq!(serve.diff(&[]).0, 2);

    put("");
    serve.metric("reloads_total{result=\"success\"}", "2").await;
    serve.metric("last_reload_successful", "1").await;
    serve.metric("needs_restart", "0").await;
    assert_ne!(by_name().await, 200);
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    assert_eq!(serve.lines("the configuration can't be used; nothing has changed").len(), 1);
}

/// What happens to a file that is written in its place: a slow copy, a full disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_be_cut_off_is_put_in_force_only_for_who_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let begin = format!(
        "[reload]\nsettle_ms = 20\n[storage]\ndir = {:?}\nballast_bytes = 0\nsegment_bytes = 4194304\ngroup_bytes_max = 1048576\n",
        directory.path().join("data")
    );
    let put = |text: &str| std::fs::write(&path, format!("{begin}{text}")).unwrap();
    put("[tiers.starter]\nburst = 30\n[channels.alipay]\nenabled = false\n");
    let serve = Serve::start(&path).await;
    let config = || async {
        let text = serve.get("/admin/v1/config").send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["data"]["config"].clone()
    };
    put("[tiers.starter]\nburst = 40\n");
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    serve.metric("last_reload_successful", "0").await;
    let in_force = config().await;
    assert_eq!(in_force["channels"]["alipay"]["enabled"], false, "{in_force}");
    assert_eq!(in_force["tiers"]["starter"]["burst"], 30);
    let said = serve.lines("the configuration can't be used; nothing has changed");
    assert!(said.len() == 1 && said[0].contains("channels.alipay.enabled"), "{said:?}");

    let reload = http_client().post(format!("{}/admin/v1/config/reload", serve.admin_url)).bearer_auth(TOKEN);
    assert_eq!(reload.send().await.unwrap().status(), 200);
    assert_eq!(config().await["channels"]["alipay"]["enabled"], true);
    serve.metric("last_reload_successful", "1").await;
    // What was asked for is what the next one is compared with.
    put("[tiers.starter]\nburst = 50\n");
    serve.metric("reloads_total{result=\"success\"}", "2").await;
    assert_eq!(config().await["tiers"]["starter"]["burst"], 50);
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
}

/// A configuration that is enough for one gateway, with its data beside it.
fn base(directory: &Path) -> String {
    format!(
        "[reload]\nsettle_ms = 20\n[storage]\ndir = {:?}\nballast_bytes = 0\nsegment_bytes = 4194304\ngroup_bytes_max = 1048576\n",
        directory.join("data")
    )
}

/// Nobody may ever write into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_in_the_files_place_is_refused_and_keeps_nobody_from_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let (path, pipe) = (directory.path().join("config.toml"), directory.path().join("pipe"));
    std::fs::write(&path, base(directory.path())).unwrap();
    let mut serve = Serve::start(&path).await;
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &path).unwrap();
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    serve.signal("-HUP");
    serve.metric("reloads_total{result=\"failure\"}", "2").await;
    let (status, text) = serve.post("/admin/v1/config/reload", json!({})).await;
    assert!(status == 400 && text.contains("not a regular file"), "{status} {text}");
    serve.signal("-TERM");
    let process = Mutex::new(&mut serve.process);
    let status = eventually("the end", || async { process.lock().unwrap().try_wait().unwrap() }).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_file_is_not_taken_for_another_one_when_there_was_none_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let begin = base(directory.path()) + "[tiers.starter]\nburst = 30\n";
    let end = "[channels.alipay]\nenabled = false\n";
    std::fs::write(&path, format!("{begin}{end}")).unwrap();
    let serve = Serve::start(&path).await;
    std::fs::remove_file(&path).unwrap();
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    std::fs::write(&path, &begin).unwrap();
    serve.metric("reloads_total{result=\"failure\"}", "2").await;
    let said = serve.lines("the configuration can't be used; nothing has changed");
    assert!(said.last().unwrap().contains("channels.alipay.enabled"), "{said:?}");
    let mut rest = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut rest, end.replace("false", "true").as_bytes()).unwrap();
    serve.metric("reloads_total{result=\"success\"}", "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_a_line_that_is_not_toml_is_repeated_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, base(directory.path())).unwrap();
    let serve = Serve::start(&path).await;
    let wrong = base(directory.path()) + "[channels.stripe.credentials]\nsecret_key = \"sk_live_TOPSECRET\n";
    std::fs::write(&path, &wrong).unwrap();
    serve.metric("reloads_total{result=\"failure\"}", "1").await;
    let shown = serve.get("/admin/v1/config").send().await.unwrap().text().await.unwrap();
    let (_, checked) = serve.post("/admin/v1/config/check", json!({ "toml": wrong })).await;
    let said = serve.lines("the configuration can't be used; nothing has changed").join("\n");
    for text in [shown, checked, said] {
        assert!(text.contains("parse error at line 9") && !text.contains("TOPSECRET"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_have_changed_wait_for_a_restart_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, key) = (directory.path().join("config.toml"), directory.path().join("key"));
    std::fs::write(&key, "sk_test_1").unwrap();
    let stripe = format!(
        "[channels.stripe]\nsandbox = false\nbase_url = \"http://127.0.0.1:9\"\n[channels.stripe.credentials]\nsecret_key_file = {key:?}\n"
    );
    std::fs::write(&path, base(directory.path()) + &stripe).unwrap();
    let serve = Serve::start(&path).await;
    assert_eq!(serve.diff(&[]), (0, String::from("no difference\n")));
    std::fs::write(&key, "sk_test_2").unwrap();
    let (code, text) = serve.diff(&[]);
    let row: Vec<&str> = text.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!((code, row), (1, vec!["channels.stripe.credentials", "-", "-", "after", "a", "restart"]), "{text}");
    let (status, text) = serve.post("/admin/v1/config/reload", json!({})).await;
    assert_eq!(status, 200, "{text}");
    let reloaded: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reloaded["data"]["needs_restart"], json!(["channels.stripe.credentials"]), "{text}");
    serve.metric("needs_restart", "1").await;
    assert!(!text.contains("sk_test"));
    std::fs::write(&key, "sk_test_1\n").unwrap();
    assert_eq!(serve.diff(&[]).0, 0, "as they are in use");
}

/// Payments are worth more than what is known about them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_without_the_headers_of_its_collector() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let telemetry = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:9\"\notlp_headers_file = \"/nowhere/headers\"\n";
    std::fs::write(&path, base(directory.path()) + telemetry).unwrap();
    let serve = Serve::start(&path).await;
    let text = serve.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.lines().any(|line| line == "tollgate_traces_not_recorded 1"), "{text}");
    let logged = serve.logged.lock().unwrap().join("\n");
    assert!(logged.contains("traces can't be sent") && logged.contains("/nowhere/headers"), "{logged}");
    let checked = Command::new(BINARY).args(["check-config", "--config"]).arg(&path).output().unwrap();
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
}
