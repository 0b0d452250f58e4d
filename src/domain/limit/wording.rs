//! What a refused client reads, in English and in Chinese.

use crate::domain::language::Language;
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

/// One sentence that says which limit refused.
pub fn message(refusal: &Refusal, language: Language) -> String {
    match language {
        Language::English => english(refusal),
        Language::Chinese => chinese(refusal),
    }
}

/// What is said when it can't be decided.
pub fn overloaded(language: Language) -> &'static str {
    language.choose("Too much work at the moment; try again shortly", "系统繁忙, 请稍后重试")
}

/// What is said about a request that costs more than a window can ever hold.
pub fn cost_too_large(cost_max: u32, language: Language) -> String {
    match language {
        Language::English => format!("The request costs more than the limits can ever admit, which is {cost_max}"),
        Language::Chinese => format!("请求的开销超过限制所能允许的最大值: {cost_max}"),
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
