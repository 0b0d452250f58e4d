//! The gateway inside an axum service of one's own: a shop that takes payments without going through HTTP to itself.
//!
//! ```sh
//! cargo run --example embed
//! curl -s -X POST http://127.0.0.1:3000/orders/O-1/pay -H 'content-type: application/json' -d '{"amount":4500,"currency":"EUR"}'
//! curl -s http://127.0.0.1:3000/orders/O-1
//! ```
//!
//! The shop's routes call the gateway in this process. Beside them the gateway listens on two ports of its own: for its
//! merchants and for what providers send (`POST /callbacks/…`), and for the operator (`tollgate status --admin-url …`). Ctrl-C
//! stops all of it in order: the shop first, then the gateway's listeners, then the gateway, which finishes what is under way.
#![allow(clippy::print_stdout, reason = "an example that says where it listens")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tollgate::domain::audit::Operator;
use tollgate::gateway::command::{CreateMerchant, CreatePayment, PaymentFilter};
use tollgate::gateway::error::GatewayError;
use tollgate::gateway::idempotency::Origin;
use tollgate::gateway::page::PageRequest;
use tollgate::gateway::view::PaymentView;
use tollgate::{Api, Config, Environment, Gateway};

/// Where customers reach the shop.
const SHOP: &str = "127.0.0.1:3000";

/// What the shop's routes share.
struct Shop {
    gateway: Gateway,
    /// The shop is one merchant of the gateway; a marketplace has one for each of its sellers.
    merchant_id: String,
}

/// What a customer's browser sends.
#[derive(Deserialize)]
struct Payment {
    amount: i64,
    currency: String,
    /// Of the customer's card, as the provider's script in the browser has made it.
    token: Option<String>,
}

/// Why the gateway did not do it, as this shop tells its customers.
struct Refused(GatewayError);

impl From<GatewayError> for Refused {
    fn from(error: GatewayError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            GatewayError::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            GatewayError::NotFound(_) => StatusCode::NOT_FOUND,
            GatewayError::OrderExists { .. } | GatewayError::InvalidState { .. } => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        // What is wrong with which field is for who sent it; the error's own text has nothing of a request, and may be logged.
        let fields = match &self.0 {
            GatewayError::InvalidRequest(fields) => fields.as_slice(),
            _ => &[],
        };
        let fields: Vec<String> = fields.iter().map(|wrong| format!("{} {}", wrong.field, wrong.message)).collect();
        (status, Json(json!({ "error": self.0.to_string(), "fields": fields }))).into_response()
    }
}

/// Takes the payment of an order. The order's number sees to it that nobody pays twice, however often this is sent.
async fn pay(
    State(shop): State<Arc<Shop>>,
    UrlPath(order_no): UrlPath<String>,
    Json(payment): Json<Payment>,
) -> Result<Json<PaymentView>, Refused> {
    let Payment { amount, currency, token } = payment;
    let command = CreatePayment { order_no, amount, currency, payment_token: token, ..CreatePayment::default() };
    let caller = shop.gateway.caller(&shop.merchant_id)?;
    // The payment is on disk when this returns, and goes on when the browser hangs up.
    let answered = shop.gateway.payments().create(&caller, Origin::in_process(), command).await?;
    Ok(Json(answered.read()?))
}

/// How the payments of an order stand.
async fn order(
    State(shop): State<Arc<Shop>>,
    UrlPath(order_no): UrlPath<String>,
) -> Result<Json<Vec<PaymentView>>, Refused> {
    let caller = shop.gateway.caller(&shop.merchant_id)?;
    let filter = PaymentFilter { order_no: Some(order_no), ..PaymentFilter::default() };
    Ok(Json(shop.gateway.payments().list(&caller, &filter, &PageRequest::default())?.items))
}

/// Where everything listens.
pub(crate) struct Listeners {
    pub(crate) shop: TcpListener,
    pub(crate) merchants: TcpListener,
    pub(crate) operator: TcpListener,
}

/// Serves until `stop` is ready, with the gateway's data below `directory`.
pub(crate) async fn serve(
    directory: &Path,
    listeners: Listeners,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let mut config = Config::embedded()?;
    config.storage.dir = directory.join("tollgate");
    config.storage.ballast_bytes = 0;
    let gateway = Gateway::open(config, Environment::of_process()).await?;

    let shutdown = CancellationToken::new();
    let api = Api::start(gateway.clone(), listeners.merchants, listeners.operator, shutdown.clone())?;

    let merchant_id = merchant_of(&gateway, "The Shop").await?;
    let shop = Arc::new(Shop { gateway: gateway.clone(), merchant_id });
    let app = Router::new()
        .route("/orders/{order_no}/pay", post(pay))
        .route("/orders/{order_no}", get(order))
        .with_state(shop);
    // A gateway whose disk fails takes nothing more; a service that goes on without it would only refuse.
    let failed = gateway.clone();
    let stop = async move {
        tokio::select! {
            () = stop => {}
            reason = failed.failed() => println!("stopping: {reason}"),
        }
    };
    axum::serve(listeners.shop, app).with_graceful_shutdown(stop).await?;

    shutdown.cancel();
    api.drained().await;
    gateway.stop().await?;
    Ok(())
}

/// The shop as a merchant: the one that an earlier start has made, or a new one.
async fn merchant_of(gateway: &Gateway, name: &str) -> Result<String, GatewayError> {
    // Merchants come in pages, newest first; this one is not among the newest for long.
    let mut page = PageRequest { limit: Some(100), cursor: None };
    loop {
        let known = gateway.merchants().list(&page)?;
        if let Some(merchant) = known.items.into_iter().find(|merchant| merchant.name == name) {
            return Ok(merchant.merchant_id);
        }
        page.cursor = known.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    let command = CreateMerchant {
        name: String::from(name),
        tier: String::from("business"),
        country: None,
        limits: None,
        channels: None,
    };
    Ok(gateway.merchants().create(command, &Operator::process("shop")).await?.merchant.merchant_id)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let listeners = Listeners {
        shop: TcpListener::bind(SHOP).await.map_err(|error| format!("the shop can't listen on {SHOP}: {error}"))?,
        merchants: TcpListener::bind("127.0.0.1:0").await?,
        operator: TcpListener::bind("127.0.0.1:0").await?,
    };
    println!("the shop is at http://{}", listeners.shop.local_addr()?);
    println!("merchants' API and callbacks: http://{}", listeners.merchants.local_addr()?);
    println!("operator: http://{}", listeners.operator.local_addr()?);
    println!("its token: {}", directory.path().join("tollgate/admin.token").display());
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(directory.path(), listeners, stop).await
}
