//! Layers, errors and what is shown.

use std::io::Write;

use super::*;
use crate::domain::pre_auth::OnExpiry;
use crate::domain::stray::StrayPolicy;

fn embedded() -> Config {
    Config::embedded().unwrap()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect()
}

fn with_variables(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(LoadOptions { environment: variables(pairs), ..LoadOptions::default() })
}

/// A file with `text`, kept while it is held.
fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let file = file(text);
    Config::load(LoadOptions { file: Some(file.path().to_path_buf()), ..LoadOptions::default() })
}

fn problems_of(result: Result<Config, ConfigError>) -> Vec<Problem> {
    match result {
        Err(ConfigError::Problems(problems)) => problems,
        other => panic!("problems expected, not {other:?}"),
    }
}

/// The only problem, which is at `path`.
fn only_problem(result: Result<Config, ConfigError>, path: &str) -> Problem {
    let problems = problems_of(result);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, path);
    problems[0].clone()
}

#[test]
fn the_embedded_layer_is_valid_and_has_the_documented_figures() {
    let config = embedded();
    assert_eq!(config.mode, Mode::Sandbox);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:8081");
    let figures: Vec<_> = ["starter", "business", "enterprise", "premium"]
        .map(|name| config.tiers[name])
        .map(|tier| (tier.per_second, tier.per_minute, tier.per_hour, tier.burst, tier.concurrent))
        .into();
    assert_eq!(
        figures,
        [
            (10, 500, 10_000, 20, 10),
            (50, 2_500, 50_000, 100, 50),
            (200, 10_000, 200_000, 400, 200),
            (500, 25_000, 500_000, 1_000, 500),
        ]
    );
    assert_eq!(config.webhook.max_attempts, 13);
    assert_eq!(config.routing.default_channel, "stripe");
    assert_eq!(config.channels["stripe"].local_countries.len(), 34);
    assert_eq!(config.channels["stripe"].fees.percent.ppm(), 29_000);
    assert_eq!(config.channels["alipay"].fees.percent.ppm(), 6_000);
    assert_eq!(config.channels["paypal"].fees.percent.ppm(), 34_900);
    assert_eq!(config.channels["crypto"].fees.percent.ppm(), 10_000);
    assert_eq!(config.channels["crypto"].kind, ChannelKind::Btcpay);
    assert!(config.channels.values().all(|channel| channel.sandbox && channel.hold_valid_s == 604_800));
    assert_eq!((config.pre_auth.expiring_before_s, config.pre_auth.on_expiry), (21_600, OnExpiry::Release));
    assert_eq!(config.payments.on_stray, StrayPolicy::Refund);
    assert_eq!(config.fx.rates.len(), 9);
}

#[test]
fn providers_are_told_where_to_send_what_they_have_to_tell() {
    let mut callbacks = embedded().callbacks;
    assert_eq!(callbacks.url_of("stripe"), None, "nobody has said how they reach us");
    for url in ["https://pay.example.com/gate", "https://pay.example.com/gate/"] {
        callbacks.public_url = Some(String::from(url));
        assert_eq!(callbacks.url_of("stripe").as_deref(), Some("https://pay.example.com/gate/callbacks/stripe"));
    }
}

#[test]
fn every_embedded_key_is_explained() {
    // Tables of figures are explained once, above them.
    let explained_as_a_whole = ["[tiers.", "[channels.", "[fx.rates]"];
    let mut section_is_explained = false;
    let mut line_before = "";
    for line in EMBEDDED.lines() {
        if line.starts_with('[') {
            section_is_explained = explained_as_a_whole.iter().any(|table| line.starts_with(table));
        }
        let is_key = line.starts_with(|first: char| first.is_ascii_alphabetic());
        assert!(!is_key || section_is_explained || line_before.starts_with('#'), "no comment above: {line}");
        line_before = line;
    }
}

#[test]
fn later_layers_win_tables_merge_and_lists_are_replaced() {
    let file =
        file("[server]\nlisten = \"127.0.0.1:1\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n[channels.stripe]\nweight = 7");
    let config = Config::load(LoadOptions {
        file: Some(file.path().to_path_buf()),
        environment: variables(&[
            ("TOLLGATE_SERVER__LISTEN", "127.0.0.1:2"),
            ("TOLLGATE_SERVER__ADMIN_LISTEN", "127.0.0.1:3"),
            ("TOLLGATE_SERVER__TRUSTED_PROXIES", "[\"192.168.0.0/16\"]"),
        ]),
        overrides: vec![Override {
            source: String::from("--listen"),
            path: String::from("server.listen"),
            value: toml::Value::from("127.0.0.1:4"),
        }],
        ..LoadOptions::default()
    })
    .unwrap();
    assert_eq!(config.server.listen.port(), 4);
    assert_eq!(config.server.admin_listen.port(), 3);
    assert_eq!(config.server.trusted_proxies, ["192.168.0.0/16".parse().unwrap()]);
    assert_eq!(config.channels["stripe"].weight, 7);
    assert_eq!(config.channels["stripe"].fees, embedded().channels["stripe"].fees);
}

#[test]
fn variables_reach_nested_tables_and_capital_keys() {
    let config = with_variables(&[
        ("TOLLGATE_CHANNELS__STRIPE__FEES__PERCENT", "1.4"),
        ("TOLLGATE_FX__RATES__EUR", "1.1"),
        ("TOLLGATE_STORAGE__DIR", "/var/lib/tollgate"),
        ("TOLLGATE_SANDBOX__STRIPE__DECLINE_RATE", "0.25"),
        ("TOLLGATE_ROUTING__SMART", "false"),
    ])
    .unwrap();
    assert_eq!(config.channels["stripe"].fees.percent.ppm(), 14_000);
    assert_eq!(config.fx.rates[&"EUR".parse().unwrap()].to_string(), "1.1");
    assert_eq!(config.storage.dir, PathBuf::from("/var/lib/tollgate"));
    assert_eq!(config.sandbox.unwrap().faults["stripe"].decline_rate, 0.25);
    assert!(!config.routing.smart);
}

#[test]
fn short_names_work_and_full_names_win_over_them() {
    let config = with_variables(&[
        ("WEBHOOK_MAX_RETRIES", "5"),
        ("WEBHOOK_INITIAL_BACKOFF", "2"),
        ("WEBHOOK_MAX_BACKOFF", "600"),
        ("WEBHOOK_TIMEOUT", "10"),
        ("WEBHOOK_RETRY_INTERVAL", "60"),
        ("ROUTING_STRATEGY", "cost"),
        ("TOLLGATE_WEBHOOK__TIMEOUT_S", "11"),
    ])
    .unwrap();
    let webhook = &config.webhook;
    assert_eq!((webhook.max_attempts, webhook.initial_backoff_s, webhook.max_backoff_s), (5, 2, 600));
    assert_eq!((webhook.timeout_s, webhook.retry_interval_s), (11, 60));
    assert_eq!(config.routing.mode, RoutingMode::Cost);
}

#[test]
fn other_variables_are_ignored() {
    let ignored = [("TOLLGATE_ADMIN_TOKEN", "x"), ("TOLLGATE_KEY", "x"), ("PATH", "x"), ("SERVER__LISTEN", "x")];
    assert_eq!(with_variables(&ignored).unwrap(), embedded());
}

#[test]
fn wrong_variables_are_named() {
    let problem = only_problem(with_variables(&[("TOLLGATE_SERVER__LISTN", "127.0.0.1:1")]), "server.listn");
    assert_eq!(problem.source.as_deref(), Some("variable TOLLGATE_SERVER__LISTN"));
    assert_eq!(problem.message, "is not a known key; did you mean `listen`?");
    let problem = only_problem(with_variables(&[("WEBHOOK_TIMEOUT", "soon")]), "webhook.timeout_s");
    assert_eq!(problem.source.as_deref(), Some("variable WEBHOOK_TIMEOUT"));
    let problem = only_problem(with_variables(&[("ROUTING_STRATEGY", "cheap")]), "routing.mode");
    assert_eq!(problem.message, "must be one of balanced, cost, success, geographic");
}

#[test]
fn a_variable_can_not_smuggle_in_other_keys() {
    let dir = "x\"\nmode = \"live";
    let config = with_variables(&[("TOLLGATE_STORAGE__DIR", dir)]).unwrap();
    assert_eq!(config.storage.dir, PathBuf::from(dir));
    assert_eq!(config.mode, Mode::Sandbox);
}

#[test]
fn unknown_keys_are_all_reported_with_the_nearest_known_name() {
    let text = "[sever]\nlisten = \"127.0.0.1:1\"\n[routing]\ndefault_chanel = \"stripe\"\n[channels.stripe]\nwieght = 1\n\
                [sandbox.stripe]\nlatency = 5\n[[rules]]\nname = \"a\"\nchannels = [\"stripe\"]\ncountrys = []";
    let problems = problems_of(with_file(text));
    let found = |path: &str| {
        let problem = problems.iter().find(|problem| problem.path == path);
        problem.unwrap_or_else(|| panic!("{path} in {problems:?}")).message.clone()
    };
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(found("sever").contains("`server`"));
    assert!(found("routing.default_chanel").contains("`default_channel`"));
    assert!(found("channels.stripe.wieght").contains("`weight`"));
    assert!(found("sandbox.stripe.latency").contains("`latency_ms`"));
    assert!(found("rules[0].countrys").contains("`countries`"));
    assert!(problems.iter().all(|problem| problem.source.as_deref().is_some_and(|source| source.ends_with(".toml"))));
}

#[test]
fn a_name_like_nothing_known_gets_the_list() {
    let problem = only_problem(with_file("[telemetry]\nzzz = 1"), "telemetry.zzz");
    assert_eq!(
        problem.message,
        "is not a known key; known here are log, format, service_name, otlp_endpoint, \
         otlp_headers_env, otlp_headers_file, otlp_timeout_ms, otlp_interval_ms, trace_queue_max, trace_sample_ratio, \
         trust_traceparent, pass_on_traceparent"
    );
}

#[test]
fn wrong_types_and_missing_keys_say_where_and_what() {
    let problem = only_problem(with_file("[server]\nbody_max_bytes = \"big\""), "server.body_max_bytes");
    assert!(problem.message.starts_with("must be a whole number from 0, not text"), "{}", problem.message);
    let problem = only_problem(with_file("[tiers.gold]\nper_second = 1"), "tiers.gold");
    assert!(problem.message.starts_with("lacks `"), "{}", problem.message);
    only_problem(with_file("[fx.rates]\nEURO = \"1\""), "fx.rates.EURO");
    only_problem(
        with_file("[webhook]\nallowed_private_networks = [\"127.0.0.0/8\", \"x\"]"),
        "webhook.allowed_private_networks[1]",
    );
    let problem =
        only_problem(with_file("[webhook]\npublic_ports = [\"443\", \"9000-8000\"]"), "webhook.public_ports[1]");
    assert!(problem.message.contains("such as \"8000-9000\""), "{}", problem.message);
    only_problem(with_file("mode = \"test\""), "mode");
}

#[test]
fn files_that_are_missing_or_not_toml_are_named() {
    let missing = PathBuf::from("/nonexistent/tollgate.toml");
    let error = Config::load(LoadOptions { file: Some(missing), ..LoadOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/tollgate.toml"), "{error}");
    let error = with_file("[server\nlisten").unwrap_err();
    assert!(matches!(&error, ConfigError::File { message, .. } if message.contains("line 1")), "{error}");
}

#[test]
fn numbers_and_dates_serve_as_text() {
    let config = with_file("[fx]\nas_of = 2026-03-01\n[channels.stripe.fees]\npercent = 2.5").unwrap();
    assert_eq!(config.fx.as_of, "2026-03-01");
    assert_eq!(config.channels["stripe"].fees.percent.ppm(), 25_000);
}

#[test]
fn fee_tables_are_read_and_shown_whole() {
    let text = "[[channels.stripe.fees.tiers]]\nfrom_minor = 100\npercent = 2.7\n\
        [channels.stripe.fees.by_method.card]\npercent = \"1\"\n[[channels.stripe.fees.changes]]\n\
        valid_from = 2026-01-01\npercent = \"2.4\"\n[[channels.stripe.fees.changes.tiers]]\nfrom_minor = 5\npercent = \"2\"";
    let config = with_file(text).unwrap();
    let fees = &config.channels["stripe"].fees;
    assert_eq!((fees.tiers.len(), fees.by_method.len(), fees.changes[0].tiers.len()), (1, 1, 1));
    assert_eq!(fees.changes[0].valid_from.map(|day| day.to_string()).as_deref(), Some("2026-01-01"));
    assert_eq!(with_file(&effective_toml(&config).unwrap()).unwrap(), config);
    let wrong = "[[channels.stripe.fees.changes]]\nvalid_from = \"2026-01-01\"\npercent = \"2\"\nfixd_minor = 1";
    only_problem(with_file(wrong), "channels.stripe.fees.changes[0].fixd_minor");
}

const LIVE: &str = r#"
mode = "live"
[channels.stripe]
base_url = "https://api.stripe.com"
[channels.stripe.credentials]
secret_key_env = "STRIPE_SECRET_KEY"
[channels.alipay]
base_url = "https://openapi.alipay.com"
[channels.alipay.credentials]
app_id_env = "ALIPAY_APP_ID"
app_private_key_file = "/etc/tollgate/alipay.pem"
alipay_public_key_file = "/etc/tollgate/alipay.pub"
"#;

#[test]
fn live_mode_drops_the_embedded_emulators() {
    let config = with_file(LIVE).unwrap();
    assert_eq!(config.mode, Mode::Live);
    assert_eq!(config.sandbox, None);
    assert!(config.channels.values().all(|channel| !channel.sandbox));
}

#[test]
fn live_mode_refuses_emulators_that_are_asked_for() {
    only_problem(with_file(&format!("{LIVE}[sandbox]\nallow_instant = false")), "sandbox");
    let text = LIVE.replace("[channels.alipay]", "[channels.alipay]\nsandbox = true");
    only_problem(with_file(&text), "channels.alipay.sandbox");
    let fast = "[channels.fast]\nkind = \"instant\"\nfees = { percent = \"0\" }";
    only_problem(with_file(&format!("{LIVE}{fast}")), "channels.fast.kind");
}

#[test]
fn live_mode_has_only_the_channels_that_are_named_and_needs_their_addresses_and_credentials() {
    let problems = problems_of(with_file("mode = \"live\"\n[channels.stripe]\nweight = 1"));
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["channels.stripe.base_url", "channels.stripe.credentials"]);
    let text = &LIVE[..LIVE.find("[channels.alipay]").unwrap()];
    assert_eq!(with_file(text).unwrap().channels.keys().collect::<Vec<_>>(), ["stripe"]);
}

#[test]
fn secrets_are_hidden_in_what_is_shown() {
    let mut config = with_file(LIVE).unwrap();
    let stripe = config.channels.get_mut("stripe").unwrap();
    stripe.base_url = Some(String::from("https://user:hunter2@api.stripe.com/"));
    stripe.credentials.insert(String::from("other_env"), String::from("sk_live_abc"));
    stripe.credentials.insert(String::from("secret_key"), String::from("sk_live_def"));
    let shown = effective_toml(&config).unwrap();
    for secret in ["hunter2", "user:", "sk_live"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("STRIPE_SECRET_KEY"));
    assert!(shown.contains("/etc/tollgate/alipay.pem"));
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let config = with_variables(&[("TOLLGATE_SANDBOX__STRIPE__DOWN", "true"), ("WEBHOOK_TIMEOUT", "5")]).unwrap();
    let shown = effective_toml(&config).unwrap();
    assert_eq!(with_file(&shown).unwrap(), config);
}

#[test]
fn an_instant_channel_needs_few_lines_and_permission() {
    let fast = "[channels.fast]\nkind = \"instant\"\nfees = { percent = \"0\" }\n";
    let problem = only_problem(with_file(fast), "channels.fast.kind");
    assert!(problem.message.contains("allow_instant"));
    let config = with_file(&format!("{fast}[sandbox]\nallow_instant = true")).unwrap();
    assert!(config.channels["fast"].enabled);
    assert_eq!(config.channels["fast"].timeout_ms, 10_000);
}

#[test]
fn one_problem_is_one_sentence_and_several_are_a_list() {
    let one = with_file("[server]\nlisten = \"127.0.0.1:8081\"").unwrap_err().to_string();
    assert!(one.starts_with("the configuration is not valid: server.admin_listen (from the built-in defaults) needs"));
    let two = with_file("[server]\nbody_max_bytes = 1\nhead_max_bytes = 1").unwrap_err().to_string();
    assert!(two.starts_with("the configuration has 2 problems:\n  server.body_max_bytes (from /"), "{two}");
}
