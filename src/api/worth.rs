//! What a request is worth when load is shed, told from its method and path alone: nothing else is known yet.

use axum::http::Method;

use crate::domain::limit::shedding::Worth;

/// The worth of a request below `/api/v1`; what no route has is worth least.
pub(crate) fn worth_of(method: &Method, path: &str) -> Worth {
    let mut segments = path.trim_start_matches('/').split('/').skip(2);
    let segments: [Option<&str>; 5] = std::array::from_fn(|_| segments.next());
    if method.is_safe() { worth_of_reading(segments) } else { worth_of_changing(segments) }
}

fn worth_of_reading(segments: [Option<&str>; 5]) -> Worth {
    match segments {
        [Some("payments" | "refunds"), Some(_), None | Some("routing"), None, _] => Worth::Query,
        [Some("webhooks"), Some("endpoints" | "notifications"), Some(_), None, _] => Worth::Query,
        [Some("limits"), None, ..] => Worth::Query,
        _ => Worth::List,
    }
}

fn worth_of_changing(segments: [Option<&str>; 5]) -> Worth {
    match segments {
        [Some("payments"), None, ..] => Worth::Create,
        [Some("payments"), Some(_), Some("cancel" | "refunds"), None, _] => Worth::Finish,
        [Some("webhooks"), Some(_), ..] => Worth::Manage,
        [Some("routing"), Some("quote"), None, ..] => Worth::Query,
        _ => Worth::List,
    }
}

#[cfg(test)]
mod tests;
