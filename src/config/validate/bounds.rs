//! The range of every number that has one, and the rules between two of them.

use super::{Findings, check_address};
use crate::config::Config;
use crate::domain::limit::{ADDRESS_BURST_MAX, ADDRESS_FAILURES_MAX, THRESHOLD_MIN_PERCENT, THRESHOLDS_MAX};
use crate::domain::payment::FAILOVERS_MAX;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_S: u64 = 86_400;
const MIB: u64 = 1024 * 1024;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    check_server(config, findings);
    findings.range("reload.settle_ms", config.reload.settle_ms, 10..=MINUTE_MS);
    check_storage(config, findings);
    check_admission(config, findings);
    check_routing(config, findings);
    check_payments(config, findings);
    check_pre_auth(config, findings);
    check_callbacks(config, findings);
    check_webhook(config, findings);
    check_retention(config, findings);
}

fn check_server(config: &Config, findings: &mut Findings) {
    let server = &config.server;
    findings.range("server.body_max_bytes", server.body_max_bytes, 1024..=16 * 1024 * 1024);
    findings.range("server.head_max_bytes", server.head_max_bytes, 8192..=1024 * 1024);
    findings.range("server.header_timeout_ms", server.header_timeout_ms, 1..=10 * MINUTE_MS);
    findings.range("server.body_timeout_ms", server.body_timeout_ms, 1..=10 * MINUTE_MS);
    findings.range("server.request_timeout_ms", server.request_timeout_ms, 1..=10 * MINUTE_MS);
    findings.range("server.idle_timeout_ms", server.idle_timeout_ms, 1..=HOUR_MS);
    findings.range("server.connections_max", server.connections_max, 1..=1_000_000);
    findings.range("server.requests_in_flight_max", server.requests_in_flight_max, 1..=1_000_000);
    findings.range("server.streams_max", server.streams_max, 1..=100_000);
    findings.range("server.stream_timeout_ms", server.stream_timeout_ms, 1000..=24 * HOUR_MS);
    findings.range("server.stream_stall_timeout_ms", server.stream_stall_timeout_ms, 1000..=10 * MINUTE_MS);
    findings.range("server.drain_timeout_ms", server.drain_timeout_ms, 0..=10 * MINUTE_MS);
    findings.range("server.tls_handshake_timeout_ms", server.tls_handshake_timeout_ms, 100..=MINUTE_MS);
    findings.range("server.tls_handshakes_max", server.tls_handshakes_max, 16..=100_000);
    findings.range("server.tls_hsts_max_age_s", server.tls_hsts_max_age_s, 0..=730 * DAY_S);
}

fn check_storage(config: &Config, findings: &mut Findings) {
    let storage = &config.storage;
    findings.range("storage.segment_bytes", storage.segment_bytes, MIB..=1024 * MIB);
    findings.range("storage.queue_batches_max", storage.queue_batches_max, 1..=1_000_000);
    let group_bytes_max = usize::try_from(storage.segment_bytes / 4).unwrap_or(usize::MAX).max(65_536);
    findings.range("storage.group_bytes_max", storage.group_bytes_max, 65_536..=group_bytes_max);
    findings.range("storage.overlay_bytes_max", storage.overlay_bytes_max, MIB..=65_536 * MIB);
    findings.range("storage.apply_interval_ms", storage.apply_interval_ms, 1..=MINUTE_MS);
    findings.range("storage.checkpoint_interval_ms", storage.checkpoint_interval_ms, 1000..=HOUR_MS);
    findings.require(
        storage.checkpoint_bytes >= storage.segment_bytes,
        "storage.checkpoint_bytes",
        format!("must be at least storage.segment_bytes ({})", storage.segment_bytes),
    );
    findings.range("storage.cache_bytes", storage.cache_bytes, MIB..=1024 * 1024 * MIB);
    findings.require(
        storage.ballast_bytes == 0 || (storage.segment_bytes..=2048 * MIB).contains(&storage.ballast_bytes),
        "storage.ballast_bytes",
        format!(
            "must be 0, or from storage.segment_bytes ({}) to {}: room for less than a segment helps nobody",
            storage.segment_bytes,
            2048 * MIB
        ),
    );
    findings.range("storage.low_space_bytes", storage.low_space_bytes, 0..=1024 * 1024 * MIB);
    findings.range("storage.base_bytes", storage.base_bytes, storage.segment_bytes..=1024 * 1024 * MIB);
    findings.range("storage.growth_interval_ms", storage.growth_interval_ms, 100..=HOUR_MS);
    findings.range("storage.journal_keep_hours", storage.journal_keep_hours, 0..=10 * 366 * 24);
    findings.range("storage.journal_keep_bytes", storage.journal_keep_bytes, 0..=1024 * 1024 * 1024 * MIB);
    findings.range("storage.clock_back_max_s", storage.clock_back_max_s, 0..=100 * 366 * DAY_S);
    findings.require(
        storage.archive_dir.as_ref().is_none_or(|archive| !archive.as_os_str().is_empty() && *archive != storage.dir),
        "storage.archive_dir",
        "must name another directory than storage.dir",
    );
}

fn check_admission(config: &Config, findings: &mut Findings) {
    let auth = &config.auth;
    findings.range("auth.timestamp_past_s", auth.timestamp_past_s, 1..=DAY_S);
    findings.range("auth.timestamp_future_s", auth.timestamp_future_s, 0..=3600);
    findings.range("auth.nonces_max", auth.nonces_max, 1000..=100_000_000);
    findings.range("auth.key_cache_max", auth.key_cache_max, 1..=10_000_000);
    let limits = &config.limits;
    findings.range("limits.lease_ms", limits.lease_ms, 1000..=HOUR_MS);
    findings.require(
        limits.lease_ms > config.server.request_timeout_ms,
        "limits.lease_ms",
        format!(
            "must be longer than server.request_timeout_ms ({}), or requests lose their permits while they run",
            config.server.request_timeout_ms
        ),
    );
    findings.range("limits.merchants_active_max", limits.merchants_active_max, 1..=10_000_000);
    findings.range("limits.external_permits_max", limits.external_permits_max, 0..=1_000_000);
    findings.range("limits.idle_ms", limits.idle_ms, 1000..=24 * HOUR_MS);
    findings.range("limits.mailbox_max", limits.mailbox_max, 1..=1_000_000);
    findings.range("limits.snapshot_interval_ms", limits.snapshot_interval_ms, 100..=HOUR_MS);
    let near = &limits.near_percent;
    findings.require(
        near.len() <= THRESHOLDS_MAX
            && near.iter().all(|percent| (THRESHOLD_MIN_PERCENT..=100).contains(percent))
            && near.windows(2).all(|two| two[0] < two[1]),
        "limits.near_percent",
        format!("must be up to {THRESHOLDS_MAX} rising shares from {THRESHOLD_MIN_PERCENT} to 100"),
    );
    findings.range("limits.near_interval_s", limits.near_interval_s, 60..=86_400);
    check_adaptive(config, findings);
    check_client_address(config, findings);
}

fn check_adaptive(config: &Config, findings: &mut Findings) {
    let adaptive = &config.limits.adaptive;
    findings.range("limits.adaptive.mailbox_delay_ms", adaptive.mailbox_delay_ms, 1..=MINUTE_MS);
    findings.range("limits.adaptive.commit_ms", adaptive.commit_ms, 1..=MINUTE_MS);
    findings.range("limits.adaptive.lag_ms", adaptive.lag_ms, 1..=MINUTE_MS);
    findings.range("limits.adaptive.rise_s", adaptive.rise_s, 1..=3600);
    let fall_min = adaptive.rise_s.min(DAY_S);
    findings.range("limits.adaptive.fall_s", adaptive.fall_s, fall_min..=DAY_S);
}

fn check_client_address(config: &Config, findings: &mut Findings) {
    let limits = &config.limits.client_address;
    let path = |key: &str| format!("limits.client_address.{key}");
    findings.range(path("per_second"), limits.per_second, 1..=ADDRESS_BURST_MAX);
    let burst_min = limits.per_second.clamp(1, ADDRESS_BURST_MAX);
    findings.range(path("burst"), limits.burst, burst_min..=ADDRESS_BURST_MAX);
    let failures = limits.failed_authentications_per_minute;
    findings.range(path("failed_authentications_per_minute"), failures, 1..=ADDRESS_FAILURES_MAX);
    findings.range(path("block_s"), limits.block_s, 1..=DAY_S);
    findings.range(path("addresses_max"), limits.addresses_max, 1024..=16 * 1024 * 1024);
    findings.require(limits.exempt_networks.len() <= 1000, path("exempt_networks"), "must be at most 1000");
}

fn check_routing(config: &Config, findings: &mut Findings) {
    let routing = &config.routing;
    findings.range("routing.failover_max", routing.failover_max, 0..=FAILOVERS_MAX);
    findings.range("routing.window_outcomes", routing.window_outcomes, 10..=10_000);
    findings.range("routing.prior_outcomes", routing.prior_outcomes, 1..=1000);
    findings.range("routing.prior_success_percent", routing.prior_success_percent, 0..=100);
    findings.range("routing.segments_max", routing.segments_max, 8..=65_536);
    findings.range("routing.newcomer_share_percent", routing.newcomer_share_percent, 0..=100);
    findings.range("routing.explore_percent", routing.explore_percent, 0..=20);
    findings.range("routing.breaker_consecutive_failures", routing.breaker_consecutive_failures, 1..=1000);
    findings.range("routing.breaker_failure_percent", routing.breaker_failure_percent, 1..=100);
    let window = u32::try_from(routing.window_outcomes).unwrap_or(u32::MAX).max(1);
    findings.range("routing.breaker_min_outcomes", routing.breaker_min_outcomes, 1..=window);
    findings.range("routing.breaker_open_ms", routing.breaker_open_ms, 1..=HOUR_MS);
    let open_min = routing.breaker_open_ms.min(24 * HOUR_MS);
    findings.range("routing.breaker_open_max_ms", routing.breaker_open_max_ms, open_min..=24 * HOUR_MS);
    findings.range("routing.breaker_jitter_percent", routing.breaker_jitter_percent, 0..=50);
    findings.range("routing.slow_call_ms", routing.slow_call_ms, 10..=60_000);
    findings.range("routing.breaker_slow_percent", routing.breaker_slow_percent, 0..=100);
    findings.range("routing.snapshot_interval_ms", routing.snapshot_interval_ms, 100..=HOUR_MS);
}

fn check_payments(config: &Config, findings: &mut Findings) {
    let payments = &config.payments;
    findings.range("payments.failover_within_ms", payments.failover_within_ms, 100..=10 * MINUTE_MS);
    findings.require(
        payments.failover_within_ms < config.server.request_timeout_ms,
        "payments.failover_within_ms",
        format!("must be shorter than server.request_timeout_ms ({})", config.server.request_timeout_ms),
    );
    findings.range("payments.resolve_first_ms", payments.resolve_first_ms, 1..=HOUR_MS);
    let early_min = payments.resolve_first_ms.min(HOUR_MS);
    findings.range("payments.resolve_early_max_ms", payments.resolve_early_max_ms, early_min..=HOUR_MS);
    let late_min = payments.resolve_early_max_ms.min(24 * HOUR_MS);
    findings.range("payments.resolve_late_max_ms", payments.resolve_late_max_ms, late_min..=24 * HOUR_MS);
    findings.range("payments.needs_review_after_s", payments.needs_review_after_s, 60..=30 * DAY_S);
    findings.range("payments.action_expires_s", payments.action_expires_s, 1..=30 * DAY_S);
    findings.range("payments.resolve_in_flight_max", payments.resolve_in_flight_max, 1..=10_000);
    findings.range("payments.settling_ms", payments.settling_ms, 100..=HOUR_MS);
    findings.range("payments.idempotency_keep_s", payments.idempotency_keep_s, 1..=30 * DAY_S);
    findings.range("payments.refunds_max", payments.refunds_max, 1..=1000);
}

fn check_pre_auth(config: &Config, findings: &mut Findings) {
    let pre_auth = &config.pre_auth;
    findings.range("pre_auth.unconfirmed_expires_s", pre_auth.unconfirmed_expires_s, 60..=30 * DAY_S);
    findings.range("pre_auth.expiring_before_s", pre_auth.expiring_before_s, 60..=30 * DAY_S);
    let before_max = pre_auth.expiring_before_s.clamp(60, 30 * DAY_S);
    findings.range("pre_auth.on_expiry_before_s", pre_auth.on_expiry_before_s, 60..=before_max);
    findings.range("pre_auth.active_max", pre_auth.active_max, 1..=1_000_000);
    findings.range("pre_auth.idle_s", pre_auth.idle_s, 1..=3600);
    findings.range("pre_auth.refunds_max", pre_auth.refunds_max, 1..=1000);
}

fn check_callbacks(config: &Config, findings: &mut Findings) {
    let callbacks = &config.callbacks;
    if let Some(url) = &callbacks.public_url {
        check_address(findings, "callbacks.public_url", url);
    }
    findings.range("callbacks.body_max_bytes", callbacks.body_max_bytes, 16 * 1024..=1024 * 1024);
    findings.range("callbacks.keep_days", callbacks.keep_days, 1..=365);
    findings.range("callbacks.unknown_keep_s", callbacks.unknown_keep_s, 60..=30 * DAY_S);
    findings.range("callbacks.asks_per_second", callbacks.asks_per_second, 1..=10_000);
}

fn check_retention(config: &Config, findings: &mut Findings) {
    let retention = &config.retention;
    findings.range("retention.customer_data_days", retention.customer_data_days, 0..=36_500);
    findings.range("retention.events_days", retention.events_days, 0..=36_500);
    findings.range("retention.notifications_days", retention.notifications_days, 0..=36_500);
    findings.range("retention.dead_letters_days", retention.dead_letters_days, 0..=36_500);
}

fn check_webhook(config: &Config, findings: &mut Findings) {
    let webhook = &config.webhook;
    findings.range("webhook.max_attempts", webhook.max_attempts, 1..=100);
    findings.range("webhook.initial_backoff_s", webhook.initial_backoff_s, 1..=3600);
    let backoff_min = webhook.initial_backoff_s.min(7 * DAY_S);
    findings.range("webhook.max_backoff_s", webhook.max_backoff_s, backoff_min..=7 * DAY_S);
    findings.require(webhook.schedule_s.len() <= 100, "webhook.schedule_s", "must have at most 100 waits");
    for (index, wait_s) in webhook.schedule_s.iter().enumerate() {
        findings.range(format!("webhook.schedule_s[{index}]"), *wait_s, 0..=7 * DAY_S);
    }
    findings.range("webhook.jitter_percent", webhook.jitter_percent, 0..=50);
    findings.range("webhook.timeout_s", webhook.timeout_s, 1..=300);
    findings.range("webhook.retry_interval_s", webhook.retry_interval_s, 10..=DAY_S);
    findings.range("webhook.endpoint_in_flight_max", webhook.endpoint_in_flight_max, 1..=1000);
    let in_flight_min = webhook.endpoint_in_flight_max.min(100_000);
    findings.range("webhook.in_flight_max", webhook.in_flight_max, in_flight_min..=100_000);
    findings.range("webhook.slow_after_ms", webhook.slow_after_ms, 50..=30_000);
    findings.range("webhook.slow_in_flight_max", webhook.slow_in_flight_max, 1..=100_000);
    findings.range("webhook.idle_connections_max", webhook.idle_connections_max, 0..=100_000);
    findings.range("webhook.connection_age_max_s", webhook.connection_age_max_s, 1..=DAY_S);
    findings.range("webhook.dns_timeout_ms", webhook.dns_timeout_ms, 100..=30_000);
    findings.range("webhook.dns_cache_max", webhook.dns_cache_max, 1..=1_000_000);
    findings.range("webhook.dns_ttl_max_s", webhook.dns_ttl_max_s, 1..=DAY_S);
    findings.range("webhook.dns_negative_ttl_s", webhook.dns_negative_ttl_s, 1..=3600);
    let bounds = &webhook.amount_classes_minor;
    findings.require(
        bounds[2] > 0 && bounds.windows(2).all(|two| two[0] > two[1]),
        "webhook.amount_classes_minor",
        "must be three falling amounts above 0",
    );
    findings.require(
        (1..=100).contains(&webhook.public_ports.len()),
        "webhook.public_ports",
        "must have from 1 to 100 entries",
    );
    check_webhook_health(config, findings);
    findings.range("webhook.jobs_max", webhook.jobs_max, 1..=100);
    findings.range("webhook.dead_letter_sweeps_max", webhook.dead_letter_sweeps_max, 0..=1000);
    findings.range("webhook.horizon_max", webhook.horizon_max, 1..=100_000);
    findings.range("webhook.response_max_bytes", webhook.response_max_bytes, 0..=16_384);
    findings.range("webhook.endpoints_max", webhook.endpoints_max, 1..=1000);
    findings.range("webhook.restart_spread_ms", webhook.restart_spread_ms, 0..=10 * MINUTE_MS);
    findings.range("webhook.rotation_overlap_s", webhook.rotation_overlap_s, 0..=30 * DAY_S);
}

fn check_webhook_health(config: &Config, findings: &mut Findings) {
    let webhook = &config.webhook;
    findings.range("webhook.breaker_min", webhook.breaker_min, 2..=1000);
    findings.range("webhook.breaker_failure_percent", webhook.breaker_failure_percent, 1..=100);
    findings.range("webhook.breaker_window_s", webhook.breaker_window_s, 1..=3600);
    findings.range("webhook.breaker_open_s", webhook.breaker_open_s, 1..=3600);
    let open_min = webhook.breaker_open_s.min(DAY_S);
    findings.range("webhook.breaker_open_max_s", webhook.breaker_open_max_s, open_min..=DAY_S);
    findings.range("webhook.failing_event_after_s", webhook.failing_event_after_s, 60..=30 * DAY_S);
    let after = webhook.failing_event_after_s;
    findings.require(
        webhook.disable_after_s == 0 || (after.saturating_add(1)..=365 * DAY_S).contains(&webhook.disable_after_s),
        "webhook.disable_after_s",
        format!("must be 0, or above failing_event_after_s ({after}) and at most {}", 365 * DAY_S),
    );
    findings.range("webhook.disable_min_tries", webhook.disable_min_tries, 1..=100_000);
    findings.range("webhook.recovery_rate_per_s", webhook.recovery_rate_per_s, 0..=10_000);
}
