//! Counts one request for Prometheus, also when its client goes away before it is answered.

use std::sync::Arc;

use crate::api::context::RequestContext;
use crate::clock::Clock;
use crate::domain::time::Monotonic;
use crate::gateway::request_figures::ListenerFigures;

/// The status of a request whose client went away before it was answered (as nginx writes it).
pub(crate) const CLIENT_GONE: u16 = 499;

/// A request that is counted when this goes out of scope.
pub(crate) struct Counted<'a> {
    figures: &'a ListenerFigures,
    clock: &'a Clock,
    began: Monotonic,
    context: Arc<RequestContext>,
    /// How it was answered.
    pub(crate) status: u16,
}

impl<'a> Counted<'a> {
    /// A request that has just come.
    pub(crate) fn begin(figures: &'a ListenerFigures, clock: &'a Clock, context: &Arc<RequestContext>) -> Self {
        figures.begin();
        Self { figures, clock, began: clock.monotonic(), context: Arc::clone(context), status: CLIENT_GONE }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let route = self.context.route.get().map(|route| route.as_str());
        let took = self.clock.monotonic().since(self.began);
        self.figures.end(self.context.method.as_str(), route, self.status, took);
    }
}
