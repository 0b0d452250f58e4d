//! Merchants' webhook endpoints, and what is on its way to them.

mod endpoints;
mod jobs;
mod notifications;

use crate::api::routes::Routes;

/// Where the endpoints are listed.
const PATH: &str = "/console/webhooks";

pub(super) fn add_routes(routes: Routes) -> Routes {
    let routes = endpoints::add_routes(routes);
    let routes = notifications::add_routes(routes);
    jobs::add_routes(routes)
}
