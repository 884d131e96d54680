//! Runs the conformance suite against a server that somebody has:
//! `conform openai http://127.0.0.1:8080 MODEL KEY generate,tools`. A model, a key and what the model
//! can do may be left out; a key may be empty.

#![allow(clippy::print_stdout, reason = "its only purpose")]

use std::{error::Error, process::ExitCode, time::Duration};

use arknet_provider::{
    Provider as _,
    upstream::{
        MappedModel, Secret, Upstream, UpstreamKind, UpstreamOptions, conformance::conformance,
    },
};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [kind, url, rest @ ..] = arguments.as_slice() else {
        println!("conform KIND URL [MODEL [KEY [ABILITIES]]]");
        return Ok(ExitCode::FAILURE);
    };
    let kind: UpstreamKind = serde_json::from_str(&format!("\"{kind}\""))?;
    let mut options = UpstreamOptions::new("conform", kind, url.as_str());
    options.slots = 4;
    options.key = rest.get(1).filter(|key| !key.is_empty()).cloned().map(Secret::new);
    if let [model, _, abilities] = rest {
        let list: Vec<_> = abilities.split(',').collect();
        options.models = vec![MappedModel {
            name: model.parse()?,
            upstream: None,
            context_tokens: None,
            capabilities: Some(serde_json::from_value(serde_json::json!(list))?),
        }];
    }
    let upstream = Upstream::start(options)?;
    let mut models = upstream.models();
    tokio::time::timeout(Duration::from_secs(30), models.wait_for(|all| !all.is_empty())).await??;
    let all = models.borrow().to_vec();
    for model in &all {
        println!("{} {:?}, {} tokens", model.name, model.capabilities, model.context_tokens);
    }
    let model = match rest.first() {
        Some(name) => name.parse()?,
        None => all[0].name.clone(),
    };
    let mut failed = 0;
    for outcome in conformance(&upstream, &model).await {
        match outcome.result {
            Ok(()) => println!("ok      {}", outcome.case),
            Err(what) => {
                failed += 1;
                println!("FAILED  {}: {what}", outcome.case);
            }
        }
    }
    println!("{failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
