//! The search at the top of every page.

use crate::api::routes::Routes;

pub(super) fn add_routes(routes: Routes) -> Routes {
    routes
}
