//! Metrics in the text format of Prometheus (OpenMetrics).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use teff_runtime::engine::{Engine, EngineStats};

/// Type of the answer with the metrics.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Time over which the gauge of tokens per second is taken.
const WINDOW: Duration = Duration::from_secs(10);

/// Bounds of the buckets of times, in seconds.
const FIRST: [f64; 14] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0];
const BETWEEN: [f64; 13] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

type Labels = Vec<(&'static str, String)>;

/// Metrics of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    first_token: Histogram,
    between_tokens: Histogram,
    /// Open connections.
    pub(crate) connections: Gauge,
    speed: Arc<Speed>,
}

impl Metrics {
    /// Metrics of a server with this engine.
    pub(crate) fn new(engine: &Arc<Engine>) -> Metrics {
        let mut registry = Registry::with_prefix("teff");
        let requests = Family::<Labels, Counter>::default();
        registry.register("requests", "HTTP requests by route and status", requests.clone());
        let first_token = Histogram::new(FIRST);
        registry.register_with_unit(
            "time_to_first_token",
            "Time from a request to the first token of a choice",
            Unit::Seconds,
            first_token.clone(),
        );
        let between_tokens = Histogram::new(BETWEEN);
        registry.register_with_unit(
            "time_between_tokens",
            "Time between two tokens of a choice",
            Unit::Seconds,
            between_tokens.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let speed = Arc::new(Speed::default());
        let collector = EngineMetrics { engine: Arc::clone(engine), speed: Arc::clone(&speed) };
        registry.register_collector(Box::new(collector));
        Metrics { registry, requests, first_token, between_tokens, connections, speed }
    }

    /// Counts a request. `route` must be one of the server's routes, so that there are few.
    pub(crate) fn count_request(&self, route: &str, status: u16) {
        let labels = vec![("route", route.to_owned()), ("code", status.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Takes note of the engine's counters, for the tokens per second.
    pub(crate) fn tick(&self, stats: &EngineStats) {
        self.speed.add(Instant::now(), stats.generated_tokens);
    }

    /// Clock of a request that has just come, for so many choices.
    pub(crate) fn timer(&self, choices: usize) -> Timer {
        Timer {
            start: Instant::now(),
            prompt: None,
            end: None,
            last: vec![None; choices],
            first_token: self.first_token.clone(),
            between_tokens: self.between_tokens.clone(),
        }
    }

    /// All metrics as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Times of one job.
#[derive(Debug)]
pub(crate) struct Timer {
    start: Instant,
    prompt: Option<Instant>,
    end: Option<Instant>,
    last: Vec<Option<Instant>>,
    first_token: Histogram,
    between_tokens: Histogram,
}

impl Timer {
    /// Takes note that a prompt was computed at this time.
    pub(crate) fn prompt(&mut self, at: Instant) {
        self.prompt.get_or_insert(at);
    }

    /// Takes note of a piece of `tokens` tokens of a choice, of which the last was computed at this time.
    pub(crate) fn piece(&mut self, choice: usize, tokens: usize, at: Instant) {
        self.end(at);
        let Some(last) = self.last.get_mut(choice).filter(|_| tokens > 0) else { return };
        match last.replace(at) {
            None => {
                self.first_token.observe(at.saturating_duration_since(self.start).as_secs_f64())
            }
            Some(last) => {
                let each = at.saturating_duration_since(last).as_secs_f64() / tokens as f64;
                (0..tokens).for_each(|_| self.between_tokens.observe(each));
            }
        }
    }

    /// Takes note that a choice had ended by this time.
    pub(crate) fn end(&mut self, at: Instant) {
        self.end = self.end.max(Some(at));
    }

    /// Time from the request to the end of the first prompt, and from then to the end of what was computed so far.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        let prompt = self.prompt.unwrap_or_else(Instant::now);
        let end = self.end.unwrap_or(prompt);
        (prompt.saturating_duration_since(self.start), end.saturating_duration_since(prompt))
    }
}

/// Generated tokens over the last seconds.
#[derive(Debug, Default)]
struct Speed {
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Speed {
    /// Adds a sample of the counter, unless there is one of this second already.
    fn add(&self, now: Instant, tokens: u64) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Instant| now.saturating_duration_since(at);
        if samples.back().is_some_and(|(at, _)| since(*at) < Duration::from_millis(500)) {
            return;
        }
        while samples.get(1).is_some_and(|(at, _)| since(*at) > WINDOW) {
            samples.pop_front();
        }
        samples.push_back((now, tokens));
    }

    /// Tokens per second from the oldest sample until now.
    fn per_second(&self, now: Instant, tokens: u64) -> f64 {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, before)) = samples.front() else { return 0.0 };
        let seconds = now.saturating_duration_since(*at).as_secs_f64();
        let more = tokens.saturating_sub(*before) as f64;
        if seconds > 0.0 { more / seconds } else { 0.0 }
    }
}

/// Collector of the engine's state.
#[derive(Debug)]
struct EngineMetrics {
    engine: Arc<Engine>,
    speed: Arc<Speed>,
}

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.engine.stats();
        let now = Instant::now();
        let speed = self.speed.per_second(now, stats.generated_tokens);
        self.speed.add(now, stats.generated_tokens);
        let gauges = [
            ("queue_requests", "Sequences that wait to be admitted.", stats.waiting as f64),
            ("running_sequences", "Sequences that run.", stats.running as f64),
            ("batch_sequences", "Sequences of the last step.", stats.batch_sequences as f64),
            ("batch_tokens", "Tokens of the last step.", stats.batch_tokens as f64),
            ("tokens_per_second", "Tokens generated in a second, over the last ten.", speed),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let pages = [
            ("running", stats.pages_running),
            ("cached", stats.pages_cached),
            ("free", stats.pages_free),
        ];
        states(&mut encoder, "pages", "Pages of the KV cache by state.", &pages)?;
        let free = stats.checkpoints.saturating_sub(stats.checkpoints_used);
        let checkpoints = [("used", stats.checkpoints_used), ("free", free)];
        states(&mut encoder, "checkpoints", "Checkpoints of states by state.", &checkpoints)?;
        let counters = [
            ("prompt_tokens", "Tokens of prompts.", stats.prompt_tokens),
            (
                "prompt_tokens_cached",
                "Tokens of prompts that came from cached prefixes.",
                stats.cached_tokens,
            ),
            ("generated_tokens", "Generated tokens.", stats.generated_tokens),
            ("computed_tokens", "Tokens that were computed.", stats.computed_tokens),
            ("guessed_tokens", "Guesses that were computed.", stats.guessed_tokens),
            ("guessed_tokens_right", "Guesses that were right.", stats.right_guesses),
            ("steps", "Steps of the engine.", stats.steps),
            ("sequences", "Sequences of all requests to the engine.", stats.sequences),
            ("sequences_ended", "Sequences that ended, however.", stats.ended_sequences),
            ("sequences_cancelled", "Sequences that were cancelled.", stats.cancelled),
            (
                "sequences_preempted",
                "Sequences that were pushed out for want of pages.",
                stats.preemptions,
            ),
            ("pages_evicted", "Cached pages that were given up for others.", stats.evictions),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// A gauge with a value for each state.
fn states(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &[(&str, usize)],
) -> fmt::Result {
    let kind = ConstGauge::new(0.0).metric_type();
    let mut family: MetricEncoder<'_> = encoder.encode_descriptor(name, help, None, kind)?;
    for (state, n) in all {
        let gauge = ConstGauge::new(*n as f64);
        gauge.encode(family.encode_family(&[("state", *state)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_per_second_are_those_of_the_window() {
        let (speed, start) = (Speed::default(), Instant::now());
        assert_eq!(speed.per_second(start, 5), 0.0);
        let at = |s: u64| start + Duration::from_secs(s);
        (0..20).for_each(|s| speed.add(at(s), 10 * s));
        assert_eq!(speed.samples.lock().unwrap().len(), 11 + 1);
        let got = speed.per_second(at(19), 190);
        assert!((got - 10.0).abs() < 1e-9, "{got}");
        // A second sample of the same moment changes nothing.
        speed.add(at(19), 1_000_000);
        assert!((speed.per_second(at(19), 190) - 10.0).abs() < 1e-9);
    }
}
