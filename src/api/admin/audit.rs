//! Who changed what, as the operator reads it.

use crate::api::call::OperatorCall;
use crate::api::envelope::{Envelope, Outcome};
use crate::api::error::ApiError;
use crate::api::query::Pages;
use crate::api::routes::{Routes, Verb};
use crate::gateway::audit::{AuditFilter, AuditPage};

const NAMES: [&str; 7] = ["actor", "action", "object", "from", "to", "verify", "anchor"];

pub(crate) fn add_routes(routes: Routes) -> Routes {
    routes.with(Verb::Get, "/admin/v1/audit", list)
}

/// List who changed what
///
/// Each entry is bound to the one before it by a hash. With `verify=true` the whole chain is checked, and against `anchor`
/// if it is given: the number and hash of an entry that were written down elsewhere, without which entries cut off the
/// chain's end can't be noticed.
#[utoipa::path(
    get, path = "/admin/v1/audit", operation_id = "list_audit", tag = "Audit",
    params(
        ("actor" = Option<String>, Query, description = "Name of the token that was used"),
        ("action" = Option<String>, Query, description = "Such as `merchant.update`"),
        ("object" = Option<String>, Query, description = "Such as a merchant's id; finds what belongs to it, too"),
        ("from" = Option<String>, Query, description = "Not before, RFC 3339"),
        ("to" = Option<String>, Query, description = "Before, RFC 3339"),
        ("verify" = Option<bool>, Query, description = "`true`: check the chain"),
        ("anchor" = Option<String>, Query, description = "With `verify=true`: `NUMBER:HASH`"),
        ("limit" = Option<u32>, Query, description = "Rows of a page, 1 to 100; 20 when absent"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "One page, newest first, and the chain's end", body = Envelope<AuditPage>)),
)]
pub(crate) async fn list(OperatorCall { call, .. }: OperatorCall) -> Outcome {
    let query = call.query(&NAMES, Pages::Yes)?;
    let verify = match query.text("verify").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::field("verify", "must be true or false")),
    };
    let anchor = query.text("anchor");
    if anchor.is_some() && !verify {
        return Err(ApiError::field("anchor", "goes with verify=true only"));
    }
    let filter = AuditFilter {
        actor: query.text("actor"),
        action: query.text("action"),
        object: query.text("object"),
        from: query.text("from"),
        to: query.text("to"),
    };
    let audit = call.gateway.audit();
    // First, so that a damaged entry is named by its number even when the list can't be read because of it.
    let verified = if verify { Some(audit.verify(anchor.as_deref()).await?) } else { None };
    let mut page = match audit.list(&filter, &query.page()?) {
        Ok(page) => page,
        Err(error) => match verified {
            Some(chain) if chain.intact == Some(false) => {
                return call.ok(AuditPage { items: Vec::new(), next_cursor: None, chain });
            }
            _ => return Err(error.into()),
        },
    };
    if let Some(chain) = verified {
        page.chain = chain;
    }
    call.ok(page)
}
