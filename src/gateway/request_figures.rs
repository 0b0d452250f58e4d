//! What Prometheus is told about requests over HTTP: how many, how they ended and how long they took, by listener and
//! route. A request costs one look into a table that was made at the start, and a few counts without a lock.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use crate::gateway::error::GatewayError;
use crate::gateway::metrics::{Figures, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use crate::gateway::stream_figures::{ListenerStreams, StreamFigures};

/// Bounds of how long a request takes, in seconds.
const BOUNDS: [f64; 13] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// The route and method of requests that no route takes; what they asked for may be anything.
const UNMATCHED: &str = "unmatched";
/// What each route is likely to answer. What is rarer is made when it comes.
const LIKELY: [&str; 3] = ["2xx", "4xx", "5xx"];
/// Requests whose client hung up before they were answered.
const GONE: &str = "gone";
/// Their status, which is in the log only.
const CLIENT_GONE: u16 = 499;

/// The figures of one gateway's requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RequestFigures {
    requests: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    connections: IntGaugeVec,
    refused: IntCounterVec,
    streams: StreamFigures,
}

impl RequestFigures {
    /// # Errors
    /// [`GatewayError::Internal`] when a name is there twice.
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        let made = Self {
            requests: figures.counters(
                "http_requests_total",
                "Requests that ended, by listener, method, route and class of status",
                &["listener", "method", "route", "status"],
            )?,
            durations: figures.histograms(
                "http_request_duration_seconds",
                "How long requests took, from their head until their answer was made",
                &["listener", "method", "route"],
                &BOUNDS,
            )?,
            in_flight: figures.gauges(
                "http_requests_in_flight",
                "Requests that have not been answered",
                &["listener"],
            )?,
            connections: figures.gauges("http_connections", "Open connections", &["listener"])?,
            refused: figures.counters(
                "http_connections_refused_total",
                "Connections that were refused since as many as there may be were open",
                &["listener"],
            )?,
            streams: StreamFigures::new(figures)?,
        };
        // A gateway that nobody serves over HTTP has them, too.
        made.of_listener("merchant", []);
        made.of_listener("admin", []);
        Ok(made)
    }

    /// The figures of one listener with its routes by method. Each route is there from the first reading on; its
    /// durations from its first request on, of which each takes fifteen lines.
    pub(crate) fn of_listener(
        &self,
        listener: &'static str,
        routes: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> ListenerFigures {
        let of_route = |method: &'static str, route: &'static str| RouteFigures::new(self, [listener, method, route]);
        let unmatched = of_route(UNMATCHED, UNMATCHED);
        unmatched.duration();
        ListenerFigures {
            streams: self.streams.of_listener(listener),
            routes: routes.into_iter().map(|(method, route)| ((method, route), of_route(method, route))).collect(),
            unmatched,
            in_flight: self.in_flight.with_label_values(&[listener]),
            connections: self.connections.with_label_values(&[listener]),
            refused: self.refused.with_label_values(&[listener]),
        }
    }
}

/// The figures of one listener.
pub(crate) struct ListenerFigures {
    /// By method and route.
    routes: HashMap<(&'static str, &'static str), RouteFigures>,
    unmatched: RouteFigures,
    /// Of answers that are made while they are sent.
    pub(crate) streams: ListenerStreams,
    in_flight: IntGauge,
    connections: IntGauge,
    refused: IntCounter,
}

impl ListenerFigures {
    /// A request has come.
    pub(crate) fn begin(&self) {
        self.in_flight.inc();
    }

    /// It has ended, with this status (499 when its client is gone). `route` is none where no route took it.
    pub(crate) fn end(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        self.in_flight.dec();
        // Whatever answers GET answers HEAD.
        let method = if method == "HEAD" { "GET" } else { method };
        let found = route.and_then(|route| self.routes.get(&(method, route)));
        found.unwrap_or(&self.unmatched).count(status, took);
    }

    /// A connection was refused for want of room.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    /// Counts a connection until the answer is dropped.
    pub(crate) fn connected(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }
}

/// A connection that is open until this is dropped.
pub(crate) struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The figures of one route.
struct RouteFigures {
    figures: RequestFigures,
    /// Listener, method and route.
    labels: [&'static str; 3],
    /// In the order of [`LIKELY`].
    likely: [IntCounter; LIKELY.len()],
    duration: OnceLock<Histogram>,
}

impl RouteFigures {
    fn new(figures: &RequestFigures, labels: [&'static str; 3]) -> Self {
        let [listener, method, route] = labels;
        let likely = LIKELY.map(|status| figures.requests.with_label_values(&[listener, method, route, status]));
        Self { figures: figures.clone(), labels, likely, duration: OnceLock::new() }
    }

    fn count(&self, status: u16, took: Duration) {
        let class = class_of(status);
        match LIKELY.iter().position(|likely| *likely == class) {
            Some(place) => self.likely[place].inc(),
            None => {
                let [listener, method, route] = self.labels;
                self.figures.requests.with_label_values(&[listener, method, route, class]).inc();
            }
        }
        self.duration().observe(took.as_secs_f64());
    }

    fn duration(&self) -> &Histogram {
        self.duration.get_or_init(|| self.figures.durations.with_label_values(&self.labels))
    }
}

fn class_of(status: u16) -> &'static str {
    match status {
        CLIENT_GONE => GONE,
        ..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500.. => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(figures: &Figures, line: &str) {
        let text = figures.text();
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }

    #[test]
    fn requests_count_by_route_and_status_and_unknown_ones_together() {
        let figures = Figures::default();
        let requests = RequestFigures::new(&figures).unwrap();
        let listener = requests.of_listener("merchant", [("GET", "/a/{id}"), ("POST", "/a")]);
        has(&figures, r#"tollgate_http_requests_total{listener="merchant",method="POST",route="/a",status="5xx"} 0"#);
        for (method, route, status) in [
            ("GET", Some("/a/{id}"), 200),
            ("HEAD", Some("/a/{id}"), 404),
            ("POST", Some("/a"), 499),
            ("POST", Some("/a"), 302),
            ("PUT", Some("/a"), 405),
            ("BREW", None, 404),
        ] {
            listener.begin();
            listener.end(method, route, status, Duration::from_millis(3));
        }
        listener.begin();
        for line in [
            r#"tollgate_http_requests_total{listener="merchant",method="GET",route="/a/{id}",status="2xx"} 1"#,
            r#"tollgate_http_requests_total{listener="merchant",method="GET",route="/a/{id}",status="4xx"} 1"#,
            r#"tollgate_http_requests_total{listener="merchant",method="POST",route="/a",status="gone"} 1"#,
            r#"tollgate_http_requests_total{listener="merchant",method="POST",route="/a",status="3xx"} 1"#,
            r#"tollgate_http_requests_total{listener="merchant",method="unmatched",route="unmatched",status="4xx"} 2"#,
            r#"tollgate_http_request_duration_seconds_bucket{listener="merchant",method="GET",route="/a/{id}",le="0.0025"} 0"#,
            r#"tollgate_http_request_duration_seconds_bucket{listener="merchant",method="GET",route="/a/{id}",le="0.005"} 2"#,
            r#"tollgate_http_requests_in_flight{listener="merchant"} 1"#,
        ] {
            has(&figures, line);
        }
        assert!(!figures.text().contains("BREW"), "a client chooses no label");
    }

    #[test]
    fn a_connection_counts_while_it_is_open() {
        let figures = Figures::default();
        let listener = RequestFigures::new(&figures).unwrap().of_listener("admin", []);
        let (one, _other) = (listener.connected(), listener.connected());
        has(&figures, r#"tollgate_http_connections{listener="admin"} 2"#);
        drop(one);
        listener.refused();
        has(&figures, r#"tollgate_http_connections{listener="admin"} 1"#);
        has(&figures, r#"tollgate_http_connections_refused_total{listener="admin"} 1"#);
        has(&figures, r#"tollgate_http_connections_refused_total{listener="merchant"} 0"#);
    }
}
