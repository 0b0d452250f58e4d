//! What the document says about the service as a whole: where it is, and what its parts are for.

use utoipa::Modify;
use utoipa::openapi::server::{Server, ServerBuilder};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{ExternalDocs, OpenApi};

use crate::api::document::common::{Audience, audience, for_each_operation};

/// Groups of operations, in the order in which one gets to know them.
const TAGS: [(&str, &str); 17] = [
    ("Payments", "Take payments, and ask what became of them and why they went where they went."),
    ("Refunds", "Give money back, all of it or a part."),
    ("Pre-auths", "Have money held, take all or a part of it later, or let it go."),
    ("Routing", "Where a payment would go; the router's mode, and its versions."),
    ("Limits", "How often one may ask, and how much of that is used."),
    ("Webhooks", "Endpoints to which events are sent, what is on its way to them, and sending it again."),
    ("Events", "All that happened, in order, for those who poll."),
    ("Merchants", "Who may use the gateway: tiers, limits, channels and keys."),
    ("Channels", "Ways to move money: their health, fees and switches, and what they have cost."),
    ("Rules", "Which payments go where, before or after the strategies."),
    ("Erasures", "Removing a customer's data."),
    ("Audit", "Who changed what."),
    ("Store", "Copies, exports, keys, and the hold after a restore."),
    ("Sandbox", "The emulators of the providers: how they misbehave, and what they did."),
    ("Service", "Health, figures, configuration, and this document."),
    ("Providers", "What providers send of their own accord."),
    ("Exports", "Tables for reconciliation."),
];
const MERCHANTS_URL: &str = "http://127.0.0.1:8080";
const OPERATOR_URL: &str = "http://127.0.0.1:8081";

/// Names the servers and describes the groups.
pub(super) struct Service;

impl Modify for Service {
    fn modify(&self, openapi: &mut OpenApi) {
        openapi.servers = Some(servers(MERCHANTS_URL, "The merchants' listener, unless it is configured otherwise"));
        for_each_operation(openapi, |path, _, operation| {
            if audience(path) == Audience::Operator {
                let description = "The operator's listener, unless it is configured otherwise";
                operation.servers = Some(servers(OPERATOR_URL, description));
            }
        });
        let used = |name: &str| {
            let mut operations =
                openapi.paths.paths.values().flat_map(|item| {
                    [&item.get, &item.put, &item.post, &item.patch, &item.delete].into_iter().flatten()
                });
            operations.any(|operation| operation.tags.iter().flatten().any(|tag| tag == name))
        };
        openapi.tags = Some(TAGS.iter().filter(|(name, _)| used(name)).map(tag).collect());
        let mut guides = ExternalDocs::new("https://github.com/tollgate-rs/tollgate/tree/main/docs");
        guides.description = Some(String::from("Guides: channels, routing, webhooks, pre-auths and more"));
        openapi.external_docs = Some(guides);
    }
}

/// The listener that the document came from, and where it is out of the box.
fn servers(url: &str, description: &str) -> Vec<Server> {
    let here = ServerBuilder::new().url("/").description(Some("Where this document was served from"));
    vec![here.build(), ServerBuilder::new().url(url).description(Some(description)).build()]
}

fn tag((name, description): &(&str, &str)) -> Tag {
    TagBuilder::new().name(*name).description(Some(*description)).build()
}
