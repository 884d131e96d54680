use arknet_types::RefusalCode;

use crate::{
    client::{Response, chat},
    door::Door,
    script::CODES,
};

fn error(response: &Response) -> (String, Option<String>, Option<String>) {
    let json = response.json();
    let fields = json["error"].as_object().unwrap();
    assert_eq!(fields.len(), 4, "{json}");
    assert!(!fields["message"].as_str().unwrap().is_empty());
    let text = |name: &str| fields[name].as_str().map(ToOwned::to_owned);
    (text("type").unwrap(), text("code"), text("param"))
}

fn status(code: RefusalCode) -> u16 {
    match code {
        RefusalCode::TooLarge => 413,
        RefusalCode::Expired | RefusalCode::FutureDated | RefusalCode::NotPermitted => 403,
        RefusalCode::CapExceeded | RefusalCode::PriceTooHigh => 402,
        RefusalCode::UnknownModel => 404,
        RefusalCode::Busy | RefusalCode::RateLimited => 429,
        RefusalCode::ContextOverflow | RefusalCode::InvalidRequest | RefusalCode::Unsupported => {
            400
        }
        RefusalCode::ShuttingDown => 503,
        _ => 502,
    }
}

#[tokio::test]
async fn every_refusal_before_the_first_token_is_a_status() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for code in CODES {
        for kind in ["refuse", "first"] {
            for more in ["", r#""stream":true,"#] {
                let body = chat(&format!("{kind}/{}", code.as_str()), more);
                let response = client.post("/v1/chat/completions", &body).await;
                assert_eq!(response.status, status(code), "{kind} {code:?}");
                error(&response);
                assert_eq!(response.header("retry-after").is_some(), response.status == 429);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_a_response_says_itself_that_the_context_is_full() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for kind in ["refuse", "first"] {
        let model = format!("{kind}/{}", RefusalCode::ContextOverflow.as_str());
        let body = format!(r#"{{"model":"{model}","input":"a","stream":true}}"#);
        let response = client.post("/v1/responses", &body).await;
        assert_eq!(response.status, 200);
        let (text, created) = (response.text(), "event: response.created");
        assert!(text.starts_with(created), "{text}");
        let failed = text.split("event: response.failed").nth(1).unwrap();
        assert!(failed.contains(r#""code":"context_length_exceeded""#), "{text}");
        // Whole answers have a status to say it with.
        let whole = client.post("/v1/responses", &body.replace("true", "false")).await;
        assert_eq!(whole.status, 400);
        // What another try may mend stays a status, which the official clients look at.
        let busy = body.replace(&model, &format!("{kind}/busy"));
        assert_eq!(client.post("/v1/responses", &busy).await.status, 429);
    }
}

#[tokio::test]
async fn busy_says_when_to_come_again() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let response = client.post("/v1/chat/completions", &chat("refuse/busy", "")).await;
    assert_eq!(response.header("retry-after"), Some("2"));
    assert_eq!(response.header("retry-after-ms"), Some("1500"));
    assert_eq!(error(&response).1.as_deref(), Some("busy"));
}

#[tokio::test]
async fn mistakes_name_their_parameter() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (path, body, status, code, param) in [
        ("/v1/chat/completions", "{", 400, None, None),
        ("/v1/chat/completions", &chat("gone", ""), 404, Some("model_not_found"), Some("model")),
        (
            "/v1/completions",
            r#"{"model":"gone","prompt":""}"#,
            404,
            Some("model_not_found"),
            Some("model"),
        ),
        ("/v1/chat/completions", &chat("m", r#""top_p":"x","#), 400, None, Some("top_p")),
        (
            "/v1/chat/completions",
            &chat("m", r#""top_p":7,"#),
            400,
            Some("invalid_request"),
            Some("top_p"),
        ),
        (
            "/v1/chat/completions",
            &chat("refuse/invalid_request", ""),
            400,
            Some("invalid_request"),
            Some("top_p"),
        ),
        (
            "/v1/chat/completions",
            &chat("refuse/context_overflow", ""),
            400,
            Some("context_length_exceeded"),
            None,
        ),
    ] {
        let response = client.post(path, body).await;
        assert_eq!(response.status, status, "{body}");
        let (kind, found_code, found_param) = error(&response);
        assert_eq!(kind, "invalid_request_error");
        assert_eq!((found_code.as_deref(), found_param.as_deref()), (code, param), "{body}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_told_apart() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for path in ["/v", "/v1", "/v1/", "/v1/chat", "//v1/models", "/v1/../health"] {
        let response = client.get(path).await;
        assert_eq!(response.status, 404, "{path}");
        error(&response);
    }
    for (path, allowed) in [("/v1/chat/completions", "POST"), ("/v1/completions", "POST")] {
        let response = client.get(path).await;
        assert_eq!(response.status, 405, "{path}");
        assert_eq!(response.header("allow"), Some(allowed));
        error(&response);
    }
    for path in ["/v1/models", "/v1/models/a/b", "/health"] {
        let response = client.post(path, "{}").await;
        assert_eq!(response.status, 405, "{path}");
        assert_eq!(response.header("allow"), Some("GET,HEAD"));
    }
    client.send("OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.status, 405);
    assert_eq!(response.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_failure_after_the_first_token_is_an_event_and_the_end() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (model, code) in [
        ("late/peer_lost", "peer_lost"),
        ("vanish", "peer_lost"),
        ("late/provider_failed", "provider_failed"),
    ] {
        let body = chat(model, r#""stream":true,"#);
        let response = client.post("/v1/chat/completions", &body).await;
        assert_eq!(response.status, 200);
        let events = response.events();
        assert_eq!(events.len(), 3, "role, text, error");
        let last: serde_json::Value = serde_json::from_str(events[2]).unwrap();
        assert_eq!(last["error"]["code"], code);
        assert_eq!(last["error"]["type"], "api_error");
        assert!(!response.text().contains("[DONE]"));

        let response = client.post("/v1/chat/completions", &chat(model, "")).await;
        assert_eq!(response.status, 502, "a whole answer is whole or none");
        assert_eq!(error(&response).1.as_deref(), Some(code));
    }
}
