//! What Prometheus is told about the process and its runtime, read when it asks.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};

use super::{Collector, Counter, Desc, Figures, IntGauge, MetricFamily, ProcessCollector, proto};
use crate::clock::Clock;
use crate::gateway::error::GatewayError;

/// The processor time, which [`ProcessCollector`] knows in whole seconds only.
const CPU: &str = "tollgate_process_cpu_seconds_total";

/// The usual figures of a process, with its processor time as exactly as the clock has it.
pub(super) struct Process {
    usual: ProcessCollector,
    clock: Clock,
}

impl Process {
    /// This process.
    pub(super) fn new(namespace: &str, clock: Clock) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Self { usual: ProcessCollector::new(pid, namespace), clock }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.usual.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.usual.collect();
        for family in families.iter_mut().filter(|family| family.name() == CPU) {
            let mut used = proto::Counter::default();
            used.set_value(self.clock.processor_time().as_secs_f64());
            for metric in family.mut_metric() {
                metric.set_counter(used.clone());
            }
        }
        families
    }
}

/// How the runtime does in which the gateway runs.
pub(super) struct Runtime {
    workers: IntGauge,
    tasks: IntGauge,
    queued: IntGauge,
    busy: Counter,
}

impl Runtime {
    pub(super) fn new(figures: &Figures) -> Result<Self, GatewayError> {
        Ok(Self {
            workers: figures.gauge("runtime_workers", "Threads on which tasks run")?,
            tasks: figures
                .gauge("runtime_tasks", "Tasks that have not ended: connections, requests, actors, timers")?,
            queued: figures.gauge("runtime_queued_tasks", "Tasks that could run and wait for any of the threads")?,
            busy: figures.decimal_counter(
                "runtime_busy_seconds_total",
                "Time for which threads ran tasks, added up over the threads",
            )?,
        })
    }

    /// Brings them up to date; outside of a runtime they stay as they are.
    pub(super) fn read(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let metrics = runtime.metrics();
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workers.set(whole(metrics.num_workers()));
        self.tasks.set(whole(metrics.num_alive_tasks()));
        self.queued.set(whole(metrics.global_queue_depth()));
        let busy = busy_of(&metrics).as_secs_f64();
        self.busy.inc_by((busy - self.busy.get()).max(0.0));
    }
}

#[cfg(target_has_atomic = "64")]
fn busy_of(metrics: &RuntimeMetrics) -> Duration {
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
}

#[cfg(not(target_has_atomic = "64"))]
fn busy_of(_metrics: &RuntimeMetrics) -> Duration {
    Duration::ZERO
}
