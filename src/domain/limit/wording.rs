//! What a refused client reads, in English and in Chinese.

use crate::domain::limit::figures::Policy;
use crate::domain::limit::view::Refusal;

/// The figure that a sentence about the refusal names: the advertised rate for `second`, not the burst.
fn figure(refusal: &Refusal) -> u32 {
    match refusal.limit() {
        Policy::Second => refusal.view.per_second,
        Policy::Minute => refusal.view.minute.limit,
        Policy::Hour => refusal.view.hour.limit,
        Policy::Concurrency => refusal.view.concurrency.limit,
    }
}

/// The message in English.
pub fn english(refusal: &Refusal) -> String {
    let figure = figure(refusal);
    match refusal.limit() {
        Policy::Second => format!("Request rate exceeds the limit: more than {figure} requests per second"),
        Policy::Minute => format!("Request rate exceeds the limit: more than {figure} requests per minute"),
        Policy::Hour => format!("Request rate exceeds the limit: more than {figure} requests per hour"),
        Policy::Concurrency => format!("Too many requests in flight: more than {figure} at the same time"),
    }
}

/// The message in Chinese.
pub fn chinese(refusal: &Refusal) -> String {
    let figure = figure(refusal);
    match refusal.limit() {
        Policy::Second => format!("请求频率超过限制: 超过每秒 {figure} 次请求限制"),
        Policy::Minute => format!("请求频率超过限制: 超过每分钟 {figure} 次请求限制"),
        Policy::Hour => format!("请求频率超过限制: 超过每小时 {figure} 次请求限制"),
        Policy::Concurrency => format!("并发请求超过限制: 超过 {figure} 个并发请求限制"),
    }
}
