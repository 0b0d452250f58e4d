//! How an emulator misbehaves: what is configured, and the dice.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::config::FaultConfig;
use crate::random::Random;

/// A change of an emulator's faults: what is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultPatch {
    /// See [`FaultConfig::latency_ms`].
    pub latency_ms: Option<u64>,
    /// See [`FaultConfig::latency_jitter_ms`].
    pub latency_jitter_ms: Option<u64>,
    /// See [`FaultConfig::decline_rate`].
    pub decline_rate: Option<f64>,
    /// See [`FaultConfig::error_rate`].
    pub error_rate: Option<f64>,
    /// See [`FaultConfig::error_after_effect_rate`].
    pub error_after_effect_rate: Option<f64>,
    /// See [`FaultConfig::lost_response_rate`].
    pub lost_response_rate: Option<f64>,
    /// See [`FaultConfig::late_effect_rate`].
    pub late_effect_rate: Option<f64>,
    /// See [`FaultConfig::late_effect_ms`].
    pub late_effect_ms: Option<u64>,
    /// See [`FaultConfig::rate_limited_rate`].
    pub rate_limited_rate: Option<f64>,
    /// See [`FaultConfig::duplicate_notification_rate`].
    pub duplicate_notification_rate: Option<f64>,
    /// See [`FaultConfig::down`].
    pub down: Option<bool>,
    /// See [`FaultConfig::seed`]. Giving it starts its random numbers anew.
    pub seed: Option<u64>,
}

/// A patch asks for what can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {expected}")]
pub struct InvalidFault {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

/// Longest latency or delay that can be asked for.
const LATENCY_MS_MAX: u64 = 600_000;

impl FaultPatch {
    /// `faults` with this change.
    ///
    /// # Errors
    /// [`InvalidFault`] for a rate outside 0 to 1 or a latency above ten minutes.
    pub fn apply(&self, faults: FaultConfig) -> Result<FaultConfig, InvalidFault> {
        let patched = FaultConfig {
            latency_ms: self.latency_ms.unwrap_or(faults.latency_ms),
            latency_jitter_ms: self.latency_jitter_ms.unwrap_or(faults.latency_jitter_ms),
            decline_rate: self.decline_rate.unwrap_or(faults.decline_rate),
            error_rate: self.error_rate.unwrap_or(faults.error_rate),
            error_after_effect_rate: self.error_after_effect_rate.unwrap_or(faults.error_after_effect_rate),
            lost_response_rate: self.lost_response_rate.unwrap_or(faults.lost_response_rate),
            late_effect_rate: self.late_effect_rate.unwrap_or(faults.late_effect_rate),
            late_effect_ms: self.late_effect_ms.unwrap_or(faults.late_effect_ms),
            rate_limited_rate: self.rate_limited_rate.unwrap_or(faults.rate_limited_rate),
            duplicate_notification_rate: self.duplicate_notification_rate.unwrap_or(faults.duplicate_notification_rate),
            down: self.down.unwrap_or(faults.down),
            seed: self.seed.unwrap_or(faults.seed),
        };
        check(&patched)?;
        Ok(patched)
    }
}

/// Whether these faults can be had.
///
/// # Errors
/// [`InvalidFault`] for the first that can't.
pub fn check(faults: &FaultConfig) -> Result<(), InvalidFault> {
    let rates = [
        ("decline_rate", faults.decline_rate),
        ("error_rate", faults.error_rate),
        ("error_after_effect_rate", faults.error_after_effect_rate),
        ("lost_response_rate", faults.lost_response_rate),
        ("late_effect_rate", faults.late_effect_rate),
        ("rate_limited_rate", faults.rate_limited_rate),
        ("duplicate_notification_rate", faults.duplicate_notification_rate),
    ];
    for (field, rate) in rates {
        if !(0.0..=1.0).contains(&rate) {
            return Err(InvalidFault { field, expected: "between 0 and 1" });
        }
    }
    let times = [
        ("latency_ms", faults.latency_ms),
        ("latency_jitter_ms", faults.latency_jitter_ms),
        ("late_effect_ms", faults.late_effect_ms),
    ];
    for (field, time_ms) in times {
        if time_ms > LATENCY_MS_MAX {
            return Err(InvalidFault { field, expected: "at most 600000" });
        }
    }
    Ok(())
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Draw {
    /// How long the answer is held back.
    pub(super) latency: Duration,
    /// Refused as over the rate limit.
    pub(super) rate_limited: bool,
    /// Failed before any effect.
    pub(super) error: bool,
    /// Declined, if it is a charge.
    pub(super) decline: bool,
    /// Failed after the effect.
    pub(super) error_after_effect: bool,
    /// Connection closed after the effect.
    pub(super) lost_response: bool,
    /// Connection closed at once; the effect comes this much later.
    pub(super) late_effect: Option<Duration>,
}

/// What happens to one notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NotificationDraw {
    /// How long it is held back, so that a later one may overtake it.
    pub(super) delay: Duration,
    /// Sent twice.
    pub(super) is_duplicated: bool,
}

/// One emulator's faults and its dice.
pub(super) struct Faults(Mutex<State>);

struct State {
    config: FaultConfig,
    /// For requests.
    random: Random,
    /// For notifications, which would else change what hits requests.
    notification_random: Random,
}

impl State {
    fn new(config: FaultConfig) -> Self {
        let (random, notification_random) = (Random::seeded(config.seed), Random::seeded(!config.seed));
        Self { config, random, notification_random }
    }
}

impl Faults {
    pub(super) fn new(config: FaultConfig) -> Self {
        Self(Mutex::new(State::new(config)))
    }

    pub(super) fn config(&self) -> FaultConfig {
        self.0.lock().config
    }

    /// Changes the faults; `restart` starts the random numbers anew.
    pub(super) fn set(&self, config: FaultConfig, restart: bool) {
        let mut state = self.0.lock();
        match restart {
            true => *state = State::new(config),
            false => state.config = config,
        }
    }

    /// Draws what happens to one notification: always the same number of draws, too.
    pub(super) fn draw_notification(&self) -> NotificationDraw {
        let state = self.0.lock();
        let State { config, notification_random: random, .. } = &*state;
        NotificationDraw {
            delay: Duration::from_millis(share_of(random.draw_u64(), config.latency_jitter_ms)),
            is_duplicated: hits(random, config.duplicate_notification_rate),
        }
    }

    /// Draws what happens to one request: always the same number of draws, so that changing one rate does not change
    /// what the others hit.
    pub(super) fn draw(&self) -> Draw {
        let state = self.0.lock();
        let State { config, random, .. } = &*state;
        let jitter_ms = share_of(random.draw_u64(), config.latency_jitter_ms);
        Draw {
            latency: Duration::from_millis(config.latency_ms.saturating_add(jitter_ms)),
            rate_limited: hits(random, config.rate_limited_rate),
            error: hits(random, config.error_rate),
            decline: hits(random, config.decline_rate),
            error_after_effect: hits(random, config.error_after_effect_rate),
            lost_response: hits(random, config.lost_response_rate),
            late_effect: hits(random, config.late_effect_rate).then(|| Duration::from_millis(config.late_effect_ms)),
        }
    }
}

/// `draw` scaled to the range from 0 to `max`, both included.
fn share_of(draw: u64, max: u64) -> u64 {
    let scaled = (u128::from(draw) * (u128::from(max) + 1)) >> 64;
    u64::try_from(scaled).unwrap_or(max)
}

fn hits(random: &Random, rate: f64) -> bool {
    // 32 bits fit an f64 exactly, so that a rate of 1 always hits and one of 0 never does.
    let draw = u32::try_from(random.draw_u64() >> 32).unwrap_or(u32::MAX);
    f64::from(draw) < rate * (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(config: FaultConfig, count: usize) -> Vec<Draw> {
        let faults = Faults::new(config);
        (0..count).map(|_| faults.draw()).collect()
    }

    #[test]
    fn rates_hit_about_as_often_as_they_say_and_the_same_each_time() {
        let config = FaultConfig { error_rate: 0.25, lost_response_rate: 1.0, seed: 7, ..FaultConfig::default() };
        let drawn = draws(config, 4000);
        let errors = drawn.iter().filter(|draw| draw.error).count();
        assert!((850..1150).contains(&errors), "{errors}");
        assert!(drawn.iter().all(|draw| draw.lost_response && !draw.decline));
        assert_eq!(drawn, draws(config, 4000));
        let other = draws(FaultConfig { decline_rate: 0.5, ..config }, 4000);
        assert!(drawn.iter().zip(&other).all(|(one, two)| one.error == two.error));
    }

    #[test]
    fn notifications_have_dice_of_their_own() {
        let config = FaultConfig {
            error_rate: 0.5,
            duplicate_notification_rate: 0.25,
            latency_ms: 900,
            latency_jitter_ms: 5,
            ..FaultConfig::default()
        };
        let (one, two) = (Faults::new(config), Faults::new(config));
        let drawn: Vec<NotificationDraw> = (0..4000).map(|_| one.draw_notification()).collect();
        let duplicated = drawn.iter().filter(|draw| draw.is_duplicated).count();
        assert!((850..1150).contains(&duplicated), "{duplicated}");
        let delays: Vec<u128> = drawn.iter().map(|draw| draw.delay.as_millis()).collect();
        assert_eq!((delays.iter().min(), delays.iter().max()), (Some(&0), Some(&5)), "held back by the jitter alone");
        assert!((0..1000).all(|_| one.draw() == two.draw()), "what hits requests is the same");
    }

    #[test]
    fn latency_stays_within_its_jitter() {
        let config = FaultConfig { latency_ms: 10, latency_jitter_ms: 5, ..FaultConfig::default() };
        let latencies: Vec<u128> = draws(config, 200).iter().map(|draw| draw.latency.as_millis()).collect();
        assert_eq!((latencies.iter().min(), latencies.iter().max()), (Some(&10), Some(&15)));
    }

    #[test]
    fn patches_merge_and_are_checked() {
        let faults = FaultConfig { latency_ms: 5, seed: 3, ..FaultConfig::default() };
        let patch: FaultPatch = serde_json::from_str(r#"{"error_rate":0.5}"#).unwrap();
        assert_eq!(patch.apply(faults), Ok(FaultConfig { error_rate: 0.5, ..faults }));
        assert!(serde_json::from_str::<FaultPatch>(r#"{"eror_rate":0.5}"#).is_err());
        for patch in [
            FaultPatch { error_rate: Some(1.5), ..FaultPatch::default() },
            FaultPatch { decline_rate: Some(-0.1), ..FaultPatch::default() },
            FaultPatch { decline_rate: Some(f64::NAN), ..FaultPatch::default() },
            FaultPatch { latency_ms: Some(LATENCY_MS_MAX + 1), ..FaultPatch::default() },
        ] {
            assert!(patch.apply(faults).is_err(), "{patch:?}");
        }
    }
}
