//! What a run showed, for a person and for a program.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    plan::{Endpoint, Plan},
    stats::{Stats, Summary},
};
use crate::out::table;

/// The result of `arknet bench serve`. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    model: Option<String>,
    endpoint: &'static str,
    stream: bool,
    concurrency: u32,
    turns: u32,
    /// As asked for; `tokens` says what came of it.
    prompt_tokens: u32,
    output_tokens: u32,
    seed: u64,
    interrupted: bool,
    seconds: f64,
    requests: Requests,
    /// By kind.
    errors: BTreeMap<String, Error>,
    finish_reasons: BTreeMap<String, u64>,
    requests_per_second: f64,
    output_tokens_per_second: f64,
    prompt_tokens_per_second: f64,
    tokens: Tokens,
    time_to_first_token_ms: Option<Summary>,
    /// From one piece of a stream to the next.
    inter_token_ms: Option<Summary>,
    /// Of each answer, the time after its first token by the tokens after it.
    time_per_output_token_ms: Option<Summary>,
    latency_ms: Option<Summary>,
    /// Where there are several.
    time_to_first_token_by_turn_ms: Vec<Option<Summary>>,
}

#[derive(Debug, Serialize)]
struct Requests {
    answered: u64,
    failed: u64,
    /// Answered over a new connection, because the kept one had been closed by the server.
    reconnected: u64,
}

#[derive(Debug, Serialize)]
struct Error {
    count: u64,
    example: String,
}

#[derive(Debug, Serialize)]
struct Tokens {
    prompt: u64,
    /// Of these, what the server had in its cache.
    cached: u64,
    output: u64,
    /// Pieces that streams brought the output in.
    pieces: u64,
    /// Answers whose tokens the server did not count: their pieces are taken for tokens.
    uncounted_answers: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan, stats: &Stats, took: Duration, interrupted: bool) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        let rate = |count: u64| count as f64 / seconds;
        let by_turn = if plan.turns > 1 { stats.first_by_turn.as_slice() } else { &[] };
        let errors = stats.errors.iter().map(|(kind, errors)| {
            (kind.clone(), Error { count: errors.count, example: errors.example.clone() })
        });
        Self {
            url: plan.target.url(),
            model: plan.model.clone(),
            endpoint: match plan.endpoint {
                Endpoint::Chat => "chat",
                Endpoint::Completions => "completions",
            },
            stream: plan.stream,
            concurrency: plan.concurrency,
            turns: plan.turns,
            prompt_tokens: plan.prompt_tokens,
            output_tokens: plan.output_tokens,
            seed: plan.seed,
            interrupted,
            seconds,
            requests: Requests {
                answered: stats.answered,
                failed: stats.failed,
                reconnected: stats.reconnects,
            },
            errors: errors.collect(),
            finish_reasons: stats.finishes.clone(),
            requests_per_second: rate(stats.answered),
            output_tokens_per_second: rate(stats.output_tokens),
            prompt_tokens_per_second: rate(stats.prompt_tokens),
            tokens: Tokens {
                prompt: stats.prompt_tokens,
                cached: stats.cached_tokens,
                output: stats.output_tokens,
                pieces: stats.pieces,
                uncounted_answers: stats.uncounted,
            },
            time_to_first_token_ms: stats.first.summary(),
            inter_token_ms: stats.between.summary(),
            time_per_output_token_ms: stats.per_token.summary(),
            latency_ms: stats.whole.summary(),
            time_to_first_token_by_turn_ms: by_turn.iter().map(|turn| turn.summary()).collect(),
        }
    }

    /// A run in which nothing was answered failed.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        match self.errors.iter().next() {
            Some((kind, error)) if self.requests.answered == 0 => {
                anyhow::bail!("no request was answered: {kind}: {}", error.example)
            }
            _ => Ok(()),
        }
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let model = self.model.as_deref().unwrap_or("?");
        let Requests { answered, failed, reconnected } = self.requests;
        let mut lines = vec![format!(
            "{model} at {}: {} at once, {answered} answered, {failed} failed in {:.1} s",
            self.url, self.concurrency, self.seconds
        )];
        if self.interrupted {
            lines.push("interrupted: what was under way is not counted".into());
        }
        lines.push(String::new());
        lines.push(self.rates());
        lines.push(String::new());
        lines.push(self.times());
        if self.tokens.uncounted_answers > 0 {
            let many = self.tokens.uncounted_answers;
            lines.push(format!("\nwithout the server's count of tokens: {many} answers"));
        }
        if reconnected > 0 {
            lines.push(format!("\nconnections the server closed between requests: {reconnected}"));
        }
        if !self.errors.is_empty() {
            let mut rows = vec![["ERROR", "COUNT", "FIRST"].map(String::from).to_vec()];
            rows.extend(self.errors.iter().map(|(kind, error)| {
                vec![kind.clone(), error.count.to_string(), error.example.clone()]
            }));
            lines.push(format!("\n{}", table(&rows)));
        }
        lines.join("\n")
    }

    fn rates(&self) -> String {
        let Tokens { prompt, cached, output, .. } = self.tokens;
        let ends: Vec<String> =
            self.finish_reasons.iter().map(|(end, count)| format!("{count} {end}")).collect();
        let rows = [
            ("requests/s", self.requests_per_second, format!("ended by {}", ends.join(", "))),
            ("output tokens/s", self.output_tokens_per_second, format!("{output} tokens")),
            (
                "prompt tokens/s",
                self.prompt_tokens_per_second,
                format!("{prompt} tokens, {cached} of them cached"),
            ),
        ];
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|(name, rate, more)| vec![name.into(), format!("{rate:.2}"), more])
            .collect();
        table(&rows)
    }

    fn times(&self) -> String {
        let heads = ["MILLISECONDS", "P50", "P95", "P99", "MEAN", "MAX"];
        let mut rows = vec![heads.map(String::from).to_vec()];
        let mut row = |name: String, times: Option<Summary>| {
            let cells = times.map_or_else(
                || vec!["-".into(); heads.len() - 1],
                |t| [t.p50, t.p95, t.p99, t.mean, t.max].map(|ms| format!("{ms:.3}")).to_vec(),
            );
            rows.push([vec![name], cells].concat());
        };
        row("time to first token".into(), self.time_to_first_token_ms);
        for (turn, times) in self.time_to_first_token_by_turn_ms.iter().enumerate() {
            row(format!("  of turn {}", turn + 1), *times);
        }
        row("between tokens".into(), self.inter_token_ms);
        row("per output token".into(), self.time_per_output_token_ms);
        row("whole answer".into(), self.latency_ms);
        table(&rows)
    }
}
