//! The control of a sandbox over HTTP, for one that runs by itself.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::sandbox::{FaultPatch, Ledger, Sandbox, SandboxError};

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Where notifications go.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Callbacks {
    /// The base; null for nowhere.
    #[serde(deserialize_with = "Option::deserialize")]
    url: Option<String>,
}

/// Serves `GET /control`, `GET` and `PUT /control/callbacks`, `GET` and `PUT /control/{channel}` and
/// `GET /control/{channel}/ledger` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve_control(
    listener: TcpListener,
    sandbox: Arc<Sandbox>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/control", get(urls))
        .route("/control/callbacks", get(callbacks).put(set_callbacks))
        .route("/control/{channel}", get(faults).put(set_faults))
        .route("/control/{channel}/ledger", get(ledger))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(sandbox);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn urls(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(sandbox.urls()).into_response()
}

async fn callbacks(State(sandbox): State<Arc<Sandbox>>) -> Response {
    Json(Callbacks { url: sandbox.callbacks() }).into_response()
}

async fn set_callbacks(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Result<Response, SandboxError> {
    let wanted: Callbacks = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(refusal(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    sandbox.set_callbacks(wanted.url.as_deref())?;
    Ok(callbacks(State(sandbox)).await)
}

async fn faults(State(sandbox): State<Arc<Sandbox>>, Path(channel): Path<String>) -> Result<Response, SandboxError> {
    Ok(Json(sandbox.faults(&channel)?).into_response())
}

async fn set_faults(
    State(sandbox): State<Arc<Sandbox>>,
    Path(channel): Path<String>,
    body: Bytes,
) -> Result<Response, SandboxError> {
    let patch: FaultPatch = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => return Ok(refusal(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    Ok(Json(sandbox.set_faults(&channel, patch).await?).into_response())
}

async fn ledger(State(sandbox): State<Arc<Sandbox>>, Path(channel): Path<String>) -> Result<Response, SandboxError> {
    Ok(Json(Ledger { items: sandbox.ledger(&channel)? }).into_response())
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "code": "INVALID_REQUEST", "message": message }))).into_response()
}

impl IntoResponse for SandboxError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::UnknownChannel(_) => {
                let body = json!({ "code": "NOT_FOUND", "message": self.to_string() });
                return (StatusCode::NOT_FOUND, Json(body)).into_response();
            }
            Self::Invalid(_) | Self::Callbacks(_) => StatusCode::BAD_REQUEST,
            Self::Io(_) => {
                let body = json!({ "code": "INTERNAL", "message": self.to_string() });
                return (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
            }
        };
        refusal(status, &self.to_string())
    }
}
