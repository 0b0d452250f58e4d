//! Tollgate's limits around an axum service of one's own.
//!
//! ```sh
//! cargo run --example rate_limit_layer
//! # Let through, with what is left in the headers:
//! curl -i -H 'X-Merchant: acme' http://127.0.0.1:3000/
//! # The 21st of 30 at once is refused with 429 and Retry-After:
//! seq 30 | xargs -P 30 -I{} curl -s -o /dev/null -w '%{http_code}\n' -H 'X-Merchant: acme' http://127.0.0.1:3000/ | sort | uniq -c
//! # Another merchant is not touched by that, and has more:
//! curl -i -H 'X-Merchant: globex' -H 'X-Plan: business' http://127.0.0.1:3000/
//! # Nobody's request is not limited here:
//! curl -i http://127.0.0.1:3000/
//! ```
//!
//! The headers stand for what a real service reads from its authentication.
#![allow(clippy::print_stdout, reason = "an example that says where it listens")]

use std::error::Error;

use axum::Router;
use axum::http::request::Parts;
use axum::routing::get;
use tokio::net::TcpListener;
use tollgate::domain::limit::LimitFigures;
use tollgate::ratelimit::{RateLimits, Settings, Subject};

const ADDRESS: &str = "127.0.0.1:3000";
const STARTER: LimitFigures =
    LimitFigures { per_second: 10, per_minute: 500, per_hour: 10_000, burst: 20, concurrent: 10 };
const BUSINESS: LimitFigures =
    LimitFigures { per_second: 50, per_minute: 2_500, per_hour: 50_000, burst: 100, concurrent: 50 };

/// Whose request it is, and in which tier.
fn subject(head: &Parts) -> Option<Subject> {
    let merchant = head.headers.get("x-merchant")?.to_str().ok()?;
    let is_business = head.headers.get("x-plan").is_some_and(|plan| plan == "business");
    Some(Subject::new(merchant, if is_business { "business" } else { "starter" }))
}

/// Serves until `stop` is ready.
pub(crate) async fn serve(
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let limits = RateLimits::start([("starter", STARTER), ("business", BUSINESS)], Settings::default()).await?;
    let app = Router::new().route("/", get(|| async { "hello\n" })).layer(limits.layer(subject));
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    limits.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener =
        TcpListener::bind(ADDRESS).await.map_err(|error| format!("{ADDRESS} can't be listened on: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(listener, stop).await
}
