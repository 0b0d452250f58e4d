//! Every rule once.

use super::*;
use crate::config::ConfigError;
use crate::config::{ChannelKind, FaultConfig, RuleConfig, ShareConfig};
use crate::domain::fees::FxRate;

/// What is wrong after `change`, by path.
fn paths_after(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let mut config = Config::embedded().unwrap();
    change(&mut config);
    match config.validate() {
        Ok(()) => Vec::new(),
        Err(ConfigError::Problems(problems)) => problems.into_iter().map(|problem| problem.path).collect(),
        Err(other) => panic!("{other}"),
    }
}

fn rule() -> RuleConfig {
    RuleConfig {
        name: String::from("rule"),
        enabled: true,
        channels: vec![String::from("stripe")],
        ..RuleConfig::default()
    }
}

#[test]
fn listeners_need_different_ports_unless_free_ones_are_taken() {
    let same = |config: &mut Config| config.server.admin_listen = config.server.listen;
    assert_eq!(paths_after(same), ["server.admin_listen"]);
    let any = |config: &mut Config| config.server.admin_listen = "0.0.0.0:8080".parse().unwrap();
    assert_eq!(paths_after(any), ["server.admin_listen"]);
    let free = |config: &mut Config| {
        config.server.listen = "127.0.0.1:0".parse().unwrap();
        config.server.admin_listen = config.server.listen;
    };
    assert!(paths_after(free).is_empty());
}

#[test]
fn a_certificate_needs_its_key_and_a_key_its_certificate() {
    let path = || Some(std::path::PathBuf::from("x.pem"));
    assert_eq!(paths_after(|config| config.server.tls_certificate = path()), ["server.tls_key"]);
    assert_eq!(paths_after(|config| config.server.tls_key = path()), ["server.tls_certificate"]);
    assert_eq!(paths_after(|config| config.server.admin_tls_certificate = path()), ["server.admin_tls_key"]);
    assert_eq!(paths_after(|config| config.server.admin_tls_key = path()), ["server.admin_tls_certificate"]);
    let both = |config: &mut Config| (config.server.tls_certificate, config.server.tls_key) = (path(), path());
    assert!(paths_after(both).is_empty());
}

#[test]
fn names_of_the_operators_listener_are_names() {
    let with = |host: &str| paths_after(|config| config.admin.hosts = vec![String::from(host)]);
    for host in ["tollgate", "tollgate.internal", "Ops-1.example.com", "a_b.local"] {
        assert!(with(host).is_empty(), "{host}");
    }
    for host in ["", "http://x", "x:8081", "*.example.com", "a..b", "10.0.0.1", "-a", "a b", "x."] {
        assert_eq!(with(host), ["admin.hosts"], "{host}");
    }
}

#[test]
fn every_number_with_a_range_is_held_to_it() {
    let paths = paths_after(|config| {
        config.server.body_max_bytes = 0;
        config.server.header_timeout_ms = 0;
        config.server.connections_max = 0;
        config.server.tls_handshake_timeout_ms = 60_001;
        config.server.tls_handshakes_max = 15;
        config.server.tls_hsts_max_age_s = 63_072_001;
        config.storage.group_bytes_max = 33_554_432;
        config.storage.checkpoint_bytes = 1;
        config.auth.nonces_max = 0;
        config.limits.mailbox_max = 0;
        config.limits.adaptive.commit_ms = 0;
        config.limits.adaptive.fall_s = 19;
        config.limits.client_address.burst = 199;
        config.limits.client_address.addresses_max = 0;
        config.routing.prior_success_percent = 101;
        config.routing.breaker_failure_percent = 0;
        config.routing.breaker_min_outcomes = 201;
        config.routing.breaker_open_max_ms = 1;
        config.payments.resolve_early_max_ms = 1;
        config.webhook.max_attempts = 0;
        config.webhook.max_backoff_s = 0;
        config.webhook.schedule_s = vec![1, u64::MAX];
        config.webhook.jitter_percent = 51;
        config.webhook.in_flight_max = 1;
        config.webhook.slow_after_ms = 49;
        config.webhook.slow_in_flight_max = 0;
        config.webhook.idle_connections_max = 100_001;
        config.webhook.connection_age_max_s = 0;
        config.webhook.dns_timeout_ms = 99;
        config.webhook.dns_cache_max = 0;
        config.webhook.dns_ttl_max_s = 0;
        config.webhook.dns_negative_ttl_s = 0;
        config.webhook.amount_classes_minor = [3, 3, 1];
        config.webhook.public_ports = Vec::new();
        config.webhook.breaker_min = 1;
        config.webhook.breaker_failure_percent = 101;
        config.webhook.breaker_window_s = 0;
        config.webhook.breaker_open_max_s = 9;
        config.webhook.failing_event_after_s = u64::MAX;
        config.webhook.disable_min_tries = 0;
        config.webhook.recovery_rate_per_s = 10_001;
        config.webhook.jobs_max = 0;
        config.webhook.dead_letter_sweeps_max = 1001;
    });
    let expected = [
        "server.body_max_bytes",
        "server.header_timeout_ms",
        "server.connections_max",
        "server.tls_handshake_timeout_ms",
        "server.tls_handshakes_max",
        "server.tls_hsts_max_age_s",
        "storage.group_bytes_max",
        "storage.checkpoint_bytes",
        "auth.nonces_max",
        "limits.mailbox_max",
        "limits.adaptive.commit_ms",
        "limits.adaptive.fall_s",
        "limits.client_address.burst",
        "limits.client_address.addresses_max",
        "routing.prior_success_percent",
        "routing.breaker_failure_percent",
        "routing.breaker_min_outcomes",
        "routing.breaker_open_max_ms",
        "payments.resolve_early_max_ms",
        "webhook.max_attempts",
        "webhook.max_backoff_s",
        "webhook.schedule_s[1]",
        "webhook.jitter_percent",
        "webhook.in_flight_max",
        "webhook.slow_after_ms",
        "webhook.slow_in_flight_max",
        "webhook.idle_connections_max",
        "webhook.connection_age_max_s",
        "webhook.dns_timeout_ms",
        "webhook.dns_cache_max",
        "webhook.dns_ttl_max_s",
        "webhook.dns_negative_ttl_s",
        "webhook.amount_classes_minor",
        "webhook.public_ports",
        "webhook.breaker_min",
        "webhook.breaker_failure_percent",
        "webhook.breaker_window_s",
        "webhook.breaker_open_max_s",
        "webhook.failing_event_after_s",
        "webhook.disable_after_s",
        "webhook.disable_min_tries",
        "webhook.recovery_rate_per_s",
        "webhook.jobs_max",
        "webhook.dead_letter_sweeps_max",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn shares_at_which_a_merchant_is_near_rise_and_are_few() {
    let with = |percent: &[u8]| paths_after(|config| config.limits.near_percent = percent.to_vec());
    for fine in [&[][..], &[20], &[80, 95], &[50, 60, 70, 100]] {
        assert!(with(fine).is_empty(), "{fine:?}");
    }
    for wrong in [&[19][..], &[101], &[95, 80], &[80, 80], &[20, 30, 40, 50, 60]] {
        assert_eq!(with(wrong), ["limits.near_percent"], "{wrong:?}");
    }
    assert_eq!(paths_after(|config| config.limits.near_interval_s = 59), ["limits.near_interval_s"]);
}

#[test]
fn amount_classes_fall_and_an_endpoint_is_told_about_before_it_is_disabled() {
    let classes = |bounds| paths_after(|config| config.webhook.amount_classes_minor = bounds);
    assert!(classes([3, 2, 1]).is_empty());
    for wrong in [[3, 2, 0], [1, 2, 3], [3, 1, 1]] {
        assert_eq!(classes(wrong), ["webhook.amount_classes_minor"], "{wrong:?}");
    }
    let disable_after = |seconds| paths_after(|config| config.webhook.disable_after_s = seconds);
    assert!(disable_after(0).is_empty() && disable_after(86_401).is_empty());
    assert_eq!(disable_after(86_400), ["webhook.disable_after_s"]);
}

#[test]
fn a_lease_outlives_its_request_and_an_answer_comes_before_its_deadline() {
    assert_eq!(paths_after(|config| config.limits.lease_ms = 50_000), ["limits.lease_ms"]);
    assert_eq!(paths_after(|config| config.payments.failover_within_ms = 50_000), ["payments.failover_within_ms"]);
}

#[test]
fn tiers_are_there_and_make_sense() {
    assert_eq!(paths_after(|config| config.tiers.clear()), ["tiers"]);
    let starter = |change: fn(&mut crate::config::TierConfig)| {
        paths_after(|config| change(config.tiers.get_mut("starter").unwrap()))
    };
    assert_eq!(starter(|tier| tier.burst = 9), ["tiers.starter.burst"]);
    assert!(starter(|tier| tier.burst = 10).is_empty());
    assert_eq!(starter(|tier| tier.concurrent = 0), ["tiers.starter.concurrent"]);
    assert_eq!(starter(|tier| tier.per_hour = 0), ["tiers.starter.per_hour"]);
    let named = |config: &mut Config| {
        let tier = config.tiers["starter"];
        config.tiers.insert(String::from("No Name"), tier);
    };
    assert_eq!(paths_after(named), ["tiers.No Name"]);
}

#[test]
fn the_default_channel_exists_and_is_enabled() {
    let unknown = |config: &mut Config| config.routing.default_channel = String::from("x");
    assert_eq!(paths_after(unknown), ["routing.default_channel"]);
    let disabled = |config: &mut Config| config.channels.get_mut("stripe").unwrap().enabled = false;
    assert_eq!(paths_after(disabled), ["routing.default_channel"]);
}

#[test]
fn channels_have_sane_figures_and_real_countries() {
    let paths = paths_after(|config| {
        let stripe = config.channels.get_mut("stripe").unwrap();
        stripe.weight = 0;
        stripe.caps.concurrent = 0;
        stripe.timeout_ms = 0;
        stripe.countries = vec![String::from("UK")];
    });
    let expected = ["weight", "caps.concurrent", "timeout_ms", "countries"].map(|key| format!("channels.stripe.{key}"));
    assert_eq!(paths, expected);
}

#[test]
fn provider_addresses_are_https_or_loopback() {
    let with_url = |url: &'static str| {
        paths_after(|config| config.channels.get_mut("stripe").unwrap().base_url = Some(String::from(url)))
    };
    for url in ["https://api.stripe.com", "http://127.0.0.1:9", "http://[::1]:9/x", "http://localhost:1"] {
        assert!(with_url(url).is_empty(), "{url}");
    }
    for url in ["http://api.stripe.com", "ftp://127.0.0.1", "api.stripe.com", "https://api.stripe.com/?a=b", ""] {
        assert_eq!(with_url(url), ["channels.stripe.base_url"], "{url}");
    }
}

#[test]
fn credentials_are_named_never_written() {
    let with = |name: &'static str, value: &'static str| {
        paths_after(|config| {
            let stripe = config.channels.get_mut("stripe").unwrap();
            stripe.credentials.insert(String::from(name), String::from(value));
        })
    };
    assert!(with("secret_key_env", "STRIPE_SECRET_KEY").is_empty());
    assert!(with("secret_key_file", "/etc/key").is_empty());
    let wrong =
        [("secret_key", "sk_live_1"), ("secret_key_env", "sk_live_1"), ("secret_key_file", ""), ("password_env", "A")];
    for (name, value) in wrong {
        assert_eq!(with(name, value), [format!("channels.stripe.credentials.{name}")]);
    }
    let twice = paths_after(|config| {
        let stripe = config.channels.get_mut("stripe").unwrap();
        stripe.credentials.insert(String::from("secret_key_env"), String::from("A"));
        stripe.credentials.insert(String::from("secret_key_file"), String::from("/a"));
    });
    assert_eq!(twice, ["channels.stripe.credentials.secret_key_file"]);
}

#[test]
fn each_kind_has_credentials_of_its_own_and_some_may_be_missing() {
    let kinds = [
        ("stripe", &["secret_key"][..], &["webhook_secret"][..]),
        ("paypal", &["client_id", "client_secret"], &["webhook_id", "webhook_ca", "merchant_id"]),
        ("alipay", &["app_id", "app_private_key", "alipay_public_key"], &["seller_id"]),
        ("crypto", &["api_key", "store_id"], &["webhook_secret"]),
    ];
    for (name, required, optional) in kinds {
        let with = |given: &[&str]| {
            paths_after(|config| {
                let channel = config.channels.get_mut(name).unwrap();
                (channel.sandbox, channel.base_url) = (false, Some(String::from("https://pay.example")));
                let entry = |credential: &&str| (format!("{credential}_env"), String::from("A"));
                channel.credentials = given.iter().map(entry).collect();
            })
        };
        assert!(with(required).is_empty(), "{name}");
        assert!(with(&[required, optional].concat()).is_empty(), "{name}");
        assert_eq!(with(&required[1..]), [format!("channels.{name}.credentials")], "{name}");
        let foreign = [required, &["password"]].concat();
        assert_eq!(with(&foreign), [format!("channels.{name}.credentials.password_env")], "{name}");
    }
}

#[test]
fn only_a_program_that_brings_a_channel_along_may_have_a_custom_one() {
    let paths = |custom: &[&str], kind| {
        let mut config = Config::embedded().unwrap();
        let channel = config.channels.get_mut("alipay").unwrap();
        (channel.kind, channel.sandbox) = (kind, false);
        match config.validate_with(custom) {
            Ok(()) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems.into_iter().map(|problem| problem.path).collect(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(paths(&[], ChannelKind::Custom), ["channels.alipay.kind"]);
    assert_eq!(paths(&["stripe"], ChannelKind::Custom), ["channels.alipay.kind", "channels.stripe.kind"]);
    assert!(paths(&["alipay"], ChannelKind::Custom).is_empty(), "it needs no address and no credentials");
    assert!(paths(&["alipay"], ChannelKind::Stripe).contains(&String::from("channels.alipay.kind")));
}

#[test]
fn holds_and_notifications_have_sane_figures() {
    let paths = paths_after(|config| {
        config.pre_auth.unconfirmed_expires_s = 59;
        config.pre_auth.expiring_before_s = 2_592_001;
        config.pre_auth.on_expiry_before_s = 59;
        config.pre_auth.active_max = 0;
        config.pre_auth.idle_s = 0;
        config.pre_auth.refunds_max = 0;
        config.callbacks.public_url = Some(String::from("http://pay.example.com"));
        config.callbacks.body_max_bytes = 1;
        config.callbacks.keep_days = 0;
        config.callbacks.unknown_keep_s = 59;
        config.callbacks.asks_per_second = 0;
        config.channels.get_mut("stripe").unwrap().hold_valid_s = 3_599;
    });
    let expected = [
        "pre_auth.unconfirmed_expires_s",
        "pre_auth.expiring_before_s",
        "pre_auth.on_expiry_before_s",
        "pre_auth.active_max",
        "pre_auth.idle_s",
        "pre_auth.refunds_max",
        "callbacks.public_url",
        "callbacks.body_max_bytes",
        "callbacks.keep_days",
        "callbacks.unknown_keep_s",
        "callbacks.asks_per_second",
        "channels.stripe.hold_valid_s",
    ];
    assert_eq!(paths, expected);
    let acts = |before_s| {
        paths_after(|config| {
            (config.pre_auth.expiring_before_s, config.pre_auth.on_expiry_before_s) = (600, before_s);
        })
    };
    assert!(acts(600).is_empty());
    assert_eq!(acts(601), ["pre_auth.on_expiry_before_s"], "nobody would have been told before");
}

#[test]
fn a_real_provider_needs_address_and_credentials_in_sandbox_mode_too() {
    let paths = paths_after(|config| config.channels.get_mut("stripe").unwrap().sandbox = false);
    assert_eq!(paths, ["channels.stripe.base_url", "channels.stripe.credentials"]);
}

#[test]
fn instant_channels_need_permission() {
    let instant = |config: &mut Config| config.channels.get_mut("alipay").unwrap().kind = ChannelKind::Instant;
    assert_eq!(paths_after(instant), ["channels.alipay.kind"]);
    let permitted = |config: &mut Config| {
        instant(config);
        config.sandbox.as_mut().unwrap().allow_instant = true;
    };
    assert!(paths_after(permitted).is_empty());
}

#[test]
fn rules_name_what_exists() {
    let with = |change: fn(&mut RuleConfig)| {
        paths_after(|config| {
            let mut rule = rule();
            change(&mut rule);
            config.rules = vec![rule];
        })
    };
    assert!(with(|_| {}).is_empty());
    assert_eq!(with(|rule| rule.channels = vec![String::from("x")]), ["rules[0].channels"]);
    assert_eq!(with(|rule| rule.channels.clear()), ["rules[0].channels"]);
    assert_eq!(with(|rule| rule.tiers = vec![String::from("x")]), ["rules[0].tiers"]);
    assert_eq!(with(|rule| rule.countries = vec![String::from("XX")]), ["rules[0].countries"]);
    assert_eq!(with(|rule| rule.name.clear()), ["rules[0].name"]);
    let of_dollars = |rule: &mut RuleConfig| rule.currencies = vec!["USD".parse().unwrap()];
    let negative = with(|rule| (rule.amount_minor_min, rule.currencies) = (Some(-1), vec!["USD".parse().unwrap()]));
    assert_eq!(negative, ["rules[0].amount_minor_min"]);
    assert_eq!(with(|rule| rule.amount_minor_min = Some(1)), ["rules[0].amount_minor_min"], "of which currency?");
    let crossed = paths_after(|config| {
        let mut rule = rule();
        of_dollars(&mut rule);
        (rule.amount_minor_min, rule.amount_minor_max) = (Some(2), Some(1));
        config.rules = vec![rule];
    });
    assert_eq!(crossed, ["rules[0].amount_minor_max"]);
    assert_eq!(with(|rule| rule.id = Some(String::from("a b"))), ["rules[0].id"]);
    assert_eq!(with(|rule| rule.id = Some(String::from("check"))), ["rules[0].id"], "an address of its own");
    assert_eq!(with(|rule| (rule.id, rule.name) = (None, String::from("check"))), ["rules[0].name"]);
    assert_eq!(with(|rule| (rule.id, rule.name) = (None, String::from(".."))), ["rules[0].name"]);
    assert_eq!(with(|rule| rule.not_card_countries = vec![String::from("us")]), ["rules[0].not_card_countries"]);
    assert_eq!(with(|rule| rule.from = "08:00".parse().ok()), ["rules[0].until"]);
    assert_eq!(with(|rule| (rule.from, rule.until) = ("08:00".parse().ok(), "08:00".parse().ok())), ["rules[0].until"]);
    assert!(with(|rule| (rule.from, rule.until) = ("22:00".parse().ok(), "06:00".parse().ok())).is_empty());
    let nowhere = with(|rule| {
        (rule.from, rule.until) = ("22:00".parse().ok(), "06:00".parse().ok());
        rule.time_zone = Some(String::from("Europe/Atlantis"));
    });
    assert_eq!(nowhere, ["rules[0].time_zone"]);
    assert_eq!(with(|rule| rule.time_zone = Some(String::from("UTC"))), ["rules[0].time_zone"], "of which time?");
    let shares = |percents: [u32; 2]| {
        ["stripe", "alipay"]
            .into_iter()
            .zip(percents)
            .map(|(channel, percent)| ShareConfig { channel: String::from(channel), percent })
    };
    let split = |percents: [u32; 2]| {
        paths_after(|config| {
            config.rules = vec![RuleConfig { channels: Vec::new(), split: shares(percents).collect(), ..rule() }];
        })
    };
    assert!(split([70, 30]).is_empty() && split([100, 0]).is_empty());
    assert_eq!(split([70, 29]), ["rules[0].split"]);
    let both = paths_after(|config| config.rules = vec![RuleConfig { split: shares([70, 30]).collect(), ..rule() }]);
    assert!(both.contains(&String::from("rules[0].channels")), "{both:?}");
    assert_eq!(paths_after(|config| config.rules = vec![rule(), rule()]), ["rules[1].name"]);
}

#[test]
fn sandbox_faults_are_rates_of_emulated_channels() {
    let with = |name: &'static str, faults: FaultConfig| {
        paths_after(|config| {
            config.sandbox.as_mut().unwrap().faults.insert(String::from(name), faults);
        })
    };
    assert!(with("stripe", FaultConfig { decline_rate: 1.0, ..FaultConfig::default() }).is_empty());
    assert_eq!(with("x", FaultConfig::default()), ["sandbox.x"]);
    for rate in [-0.1, 1.1, f64::NAN] {
        let faults = FaultConfig { lost_response_rate: rate, ..FaultConfig::default() };
        assert_eq!(with("stripe", faults), ["sandbox.stripe.lost_response_rate"]);
    }
    let url = |config: &mut Config| config.sandbox.as_mut().unwrap().url = Some(String::from("http://10.0.0.1"));
    assert_eq!(paths_after(url), ["sandbox.url"]);
}

#[test]
fn fees_can_be_converted_and_rates_are_dated() {
    let fees = |change: fn(&mut crate::domain::fees::FeeSchedule)| {
        paths_after(|config| change(&mut config.channels.get_mut("stripe").unwrap().fees))
    };
    assert!(fees(|fees| fees.fixed_currency = "EUR".parse().unwrap()).is_empty());
    assert_eq!(fees(|fees| fees.fixed_currency = "SEK".parse().unwrap()), ["channels.stripe.fees.fixed_currency"]);
    assert_eq!(fees(|fees| fees.fixed_minor = -1), ["channels.stripe.fees.fixed_minor"]);
    assert_eq!(fees(|fees| fees.percent = "99".parse().unwrap()), ["channels.stripe.fees"]);
    assert_eq!(fees(|fees| fees.as_of = String::from("yesterday")), ["channels.stripe.fees.as_of"]);
    assert_eq!(paths_after(|config| config.fx.as_of = String::from("2025-02-30")), ["fx.as_of"]);
    assert_eq!(fees(|fees| (fees.min_minor, fees.max_minor) = (Some(9), Some(8))), ["channels.stripe.fees.max_minor"]);
    assert_eq!(fees(|fees| fees.min_minor = Some(-1)), ["channels.stripe.fees.min_minor"]);
    let own = |config: &mut Config| {
        config.fx.rates.insert(config.fx.settlement_currency, "1.1".parse().unwrap());
    };
    assert_eq!(paths_after(own), ["fx.rates.USD"]);
    let one = |config: &mut Config| {
        config.fx.rates.insert(config.fx.settlement_currency, FxRate::ONE);
    };
    assert!(paths_after(one).is_empty());
}

#[test]
fn tiers_rise_changes_follow_each_other_and_all_of_them_are_checked() {
    use crate::domain::fees::{FeeOverride, FeeSchedule, FeeTier};
    let fees = |change: &dyn Fn(&mut FeeSchedule)| {
        paths_after(|config| change(&mut config.channels.get_mut("stripe").unwrap().fees))
    };
    let tier = |from_minor, percent: &str| FeeTier { from_minor, percent: percent.parse().unwrap(), fixed_minor: None };
    let from =
        |day: Option<&str>| FeeSchedule { valid_from: day.map(|day| day.parse().unwrap()), ..FeeSchedule::default() };
    assert!(fees(&|fees| fees.tiers = vec![tier(0, "2"), tier(1, "1")]).is_empty());
    let path = |end: &str| vec![format!("channels.stripe.fees.{end}")];
    assert_eq!(fees(&|fees| fees.tiers = vec![tier(5, "2"), tier(5, "1")]), path("tiers[1].from_minor"));
    assert_eq!(fees(&|fees| fees.tiers = vec![tier(5, "99")]), path("tiers[0]"));
    assert!(fees(&|fees| fees.changes = vec![from(Some("2026-01-01")), from(Some("2026-02-01"))]).is_empty());
    let falling = vec![from(Some("2026-02-01")), from(Some("2026-02-01"))];
    assert_eq!(fees(&|fees| fees.changes.clone_from(&falling)), path("changes[1].valid_from"));
    assert_eq!(fees(&|fees| fees.changes = vec![from(None)]), path("changes[0].valid_from"));
    assert_eq!(fees(&|fees| fees.valid_from = falling[0].valid_from), path("valid_from"));
    let nested = FeeSchedule { changes: vec![from(Some("2026-03-01"))], ..falling[0].clone() };
    assert_eq!(fees(&|fees| fees.changes = vec![nested.clone()]), path("changes[0].changes"));
    let wrong = FeeSchedule { fixed_minor: -1, ..falling[0].clone() };
    assert_eq!(fees(&|fees| fees.changes = vec![wrong.clone()]), path("changes[0].fixed_minor"));
    let own = FeeOverride { percent: "1".parse().unwrap(), fixed_minor: -1 };
    assert_eq!(fees(&|fees| fees.by_method = [(String::from("card"), own)].into()), path("by_method.card.fixed_minor"));
    let own = FeeOverride { fixed_minor: 0, ..own };
    assert_eq!(fees(&|fees| fees.by_method = [(String::from("crad"), own)].into()), path("by_method.crad"));
    for method in ["card", "alipay"] {
        assert!(fees(&|fees| fees.by_method = [(method.to_owned(), own)].into()).is_empty(), "{method}");
    }
}

#[test]
fn texts_are_usable() {
    assert_eq!(paths_after(|config| config.telemetry.log = String::from("info,=x=")), ["telemetry.log"]);
    assert_eq!(paths_after(|config| config.storage.dir.clear()), ["storage.dir"]);
    let empty = |config: &mut Config| config.security.master_key_file = Some(std::path::PathBuf::new());
    assert_eq!(paths_after(empty), ["security.master_key_file"]);
}

#[test]
fn a_ballast_holds_a_segment_or_there_is_none() {
    let ballast = |bytes: u64| move |config: &mut Config| config.storage.ballast_bytes = bytes;
    let segment_bytes = Config::embedded().unwrap().storage.segment_bytes;
    assert_eq!(paths_after(ballast(segment_bytes - 1)), ["storage.ballast_bytes"]);
    assert!(paths_after(ballast(segment_bytes)).is_empty() && paths_after(ballast(0)).is_empty());
}
