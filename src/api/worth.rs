//! What a request is worth when load is shed, told from its method and path alone: nothing else is known yet.

use axum::http::Method;

use crate::domain::limit::shedding::Worth;

/// The worth of a request below `/api/v1`; what no route has is worth least.
pub(crate) fn worth_of(method: &Method, path: &str) -> Worth {
    stated_worth(method, path).unwrap_or(Worth::List)
}

/// The worth of what looks like one of the routes. Every route is named here: one that is not would be shed first, whatever
/// it is for.
fn stated_worth(method: &Method, path: &str) -> Option<Worth> {
    let mut segments = path.trim_start_matches('/').split('/').skip(2);
    let segments: [Option<&str>; 5] = std::array::from_fn(|_| segments.next());
    if method.is_safe() { worth_of_reading(segments) } else { worth_of_changing(segments) }
}

fn worth_of_reading(segments: [Option<&str>; 5]) -> Option<Worth> {
    match segments {
        [Some("payments" | "refunds"), Some(_), None | Some("routing"), None, _] => Some(Worth::Query),
        [Some("pre-auths"), Some(_), None, ..] => Some(Worth::Query),
        [Some("channel"), Some("pre-auth"), Some(_), None, _] => Some(Worth::Query),
        [Some("webhooks"), Some("endpoints" | "notifications" | "jobs"), Some(_), None, _] => Some(Worth::Query),
        [Some("limits"), None, ..] => Some(Worth::Query),
        [Some("payments" | "pre-auths" | "events"), None, ..] => Some(Worth::List),
        [Some("exports"), Some(_), None, ..] => Some(Worth::List),
        [Some("payments" | "pre-auths"), Some(_), Some("refunds"), None, _] => Some(Worth::List),
        [Some("webhooks"), Some("endpoints" | "notifications" | "jobs"), None, ..] => Some(Worth::List),
        _ => None,
    }
}

fn worth_of_changing(segments: [Option<&str>; 5]) -> Option<Worth> {
    match segments {
        [Some("payments" | "pre-auths"), None, ..] => Some(Worth::Create),
        [Some("channel"), Some("pre-auth"), None, ..] => Some(Worth::Create),
        [Some("payments"), Some(_), Some("cancel" | "refunds"), None, _] => Some(Worth::Finish),
        [Some("pre-auths"), Some(_), Some("capture" | "cancel" | "refunds"), None, _] => Some(Worth::Finish),
        [Some("channel"), Some("pre-auth"), Some("capture" | "cancel"), None, _] => Some(Worth::Finish),
        [Some("webhooks"), Some("endpoints"), None, ..] => Some(Worth::Manage),
        [Some("webhooks"), Some("endpoints"), Some(_), None | Some("rotate-secret" | "test" | "recover"), None] => {
            Some(Worth::Manage)
        }
        [Some("webhooks"), Some("notifications"), Some(_), Some("retry" | "cancel"), None] => Some(Worth::Manage),
        [Some("webhooks"), Some("notifications"), Some("retry" | "cancel"), None, _] => Some(Worth::Manage),
        [Some("webhooks"), Some("jobs"), Some(_), Some("cancel"), None] => Some(Worth::Manage),
        [Some("routing"), Some("quote"), None, ..] => Some(Worth::Query),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
