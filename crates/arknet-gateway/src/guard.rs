//! Who may speak to a door without keys: programs on this machine, not web pages.
//!
//! A page can make a browser send requests to a loopback address. Its requests differ in what the
//! page cannot forge: `Host` names the page's own server (DNS rebinding), `Origin` names the page,
//! and a body other than a form needs a content type for which the browser asks first.

use arknet_types::Hosts;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};

use crate::ApiError;

/// The web pages that may use the door, by origin.
#[derive(Debug)]
pub(crate) struct Origins(Vec<String>);

impl Origins {
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self(allowed.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect())
    }

    fn contain(&self, origin: &str) -> bool {
        // Pages without an origin of their own all say `null`: that names nobody.
        origin != "null" && self.0.iter().any(|one| one.eq_ignore_ascii_case(origin))
    }
}

/// Refuses what a web page could have sent, unless its origin is allowed: that is returned then.
pub(crate) fn check(
    hosts: &Hosts,
    origins: &Origins,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, ApiError> {
    let host = only(headers, header::HOST)?.ok_or_else(|| {
        ApiError::invalid(StatusCode::BAD_REQUEST, "The request has no single Host header.")
    })?;
    let in_uri = uri.authority().map(axum::http::uri::Authority::as_str);
    if !hosts.contain(host) || in_uri.is_some_and(|authority| !hosts.contain(authority)) {
        return Err(ApiError::invalid(
            StatusCode::FORBIDDEN,
            "This host name is not allowed. Address the node as localhost, or add the name to the \
             gateway's allowed hosts.",
        )
        .code("host_not_allowed"));
    }
    let mut guest = None;
    if let Some(origin) = only(headers, header::ORIGIN)? {
        let from = origin.split_once("://").map(|(_, authority)| authority);
        if origins.contain(origin) || is_of_desktop(origin) {
            guest = headers.get(header::ORIGIN).cloned();
        } else if !from.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(ApiError::invalid(
                StatusCode::FORBIDDEN,
                "Web pages of other origins may not use this node, unless they are among the \
                 gateway's allowed_origins.",
            )
            .code("origin_not_allowed"));
        }
    }
    if method == Method::POST {
        json_or_nothing(uri, headers)?;
    }
    Ok(guest)
}

/// Whether this is a program of this machine whose windows are web pages: Electron's, Tauri's, an
/// editor's. No page that comes from anywhere else has such an origin.
fn is_of_desktop(origin: &str) -> bool {
    let scheme = origin.split_once("://").map(|(scheme, _)| scheme);
    // Of pages in files browsers say `null`; Electron, which lets its own see all, says `file`.
    matches!(scheme, Some("app" | "file" | "tauri" | "vscode-webview" | "vscode-file"))
}

/// How long a browser may remember that an origin is allowed.
const WELCOME_S: HeaderValue = HeaderValue::from_static("600");

/// The answer to a browser that asks whether a page of an allowed origin may ask.
pub(crate) fn welcome(origin: HeaderValue, wanted: Option<HeaderValue>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    show(&mut response, origin);
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, DELETE, HEAD, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(wanted) = wanted {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, WELCOME_S);
    response
}

/// Lets a page of this origin see the response.
pub(crate) fn show(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let seen =
        "x-request-id, request-id, x-arknet-peer, retry-after, retry-after-ms, x-should-retry";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(seen));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// The one value of a header that must not be repeated.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(ApiError::invalid(
            StatusCode::BAD_REQUEST,
            format!("The header {name} is repeated or not plain text."),
        )),
    }
}

fn json_or_nothing(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = only(headers, header::CONTENT_TYPE)? else {
        return Ok(());
    };
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    // curl calls whatever it posts a form, and Ollama's users know no other way. A browser that
    // posts a form says where from.
    if uri.path().starts_with("/api/")
        && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && !headers.contains_key(header::ORIGIN)
        && !headers.contains_key("sec-fetch-site")
    {
        return Ok(());
    }
    Err(ApiError::invalid(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Send JSON, with the header 'Content-Type: application/json'.",
    )
    .code("unsupported_content_type"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn verdict(method: &Method, uri: &str, pairs: &[(&'static str, &'static str)]) -> u16 {
        let hosts = Hosts::new("192.168.7.7".parse().unwrap(), &["Box.local:4000".into()]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let origins = Origins::new(&["https://chat.example/".into(), "null".into()]);
        check(&hosts, &origins, method, &uri.parse().unwrap(), &headers).map_or_else(
            |error| error.status.as_u16(),
            |guest| if guest.is_some() { 201 } else { 200 },
        )
    }

    #[test]
    fn a_door_on_all_addresses_is_addressed_by_any_number() {
        let hosts = Hosts::new("0.0.0.0".parse().unwrap(), &[]);
        for (host, known) in [
            ("192.168.1.20:4000", true),
            ("[fe80::1]:4000", true),
            ("localhost", true),
            ("box.local:4000", false),
            ("192.168.1.20.evil.example", false),
        ] {
            assert_eq!(hosts.contain(host), known, "{host}");
        }
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for (host, status) in [
            ("localhost", 200),
            ("LocalHost:4000", 200),
            ("127.0.0.1:4000", 200),
            ("[::1]", 200),
            ("[::1]:4000", 200),
            ("192.168.7.7:4000", 200),
            ("box.LOCAL:80", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:4000", 403),
            ("[::1]evil.example", 403),
            ("[::1", 403),
            ("", 403),
            ("user@localhost", 403),
        ] {
            assert_eq!(verdict(&Method::GET, "/", &[("host", host)]), status, "{host}");
        }
        assert_eq!(verdict(&Method::GET, "/", &[]), 400);
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(verdict(&Method::GET, "/", &twice), 400);
        let good = [("host", "localhost")];
        assert_eq!(verdict(&Method::GET, "http://evil.example/", &good), 403);
        assert_eq!(verdict(&Method::GET, "http://localhost:4000/", &good), 200);
    }

    #[test]
    fn web_pages_of_other_origins_are_refused() {
        for (origin, status) in [
            ("http://localhost:4000", 200),
            ("http://localhost:3000", 403),
            ("https://evil.example", 403),
            ("https://chat.example", 201),
            ("HTTPS://Chat.example", 201),
            ("http://chat.example", 403),
            ("https://chat.example:444", 403),
            ("app://obsidian.md", 201),
            ("tauri://localhost", 201),
            ("vscode-webview://1f2e", 201),
            ("http://app://obsidian.md", 403),
            ("file://", 201),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "localhost:4000"), ("origin", origin)];
            assert_eq!(verdict(&Method::GET, "/", &headers), status, "{origin}");
        }
    }

    #[test]
    fn a_body_is_json() {
        for (kind, status) in [
            ("application/json", 200),
            ("Application/JSON; charset=utf-8", 200),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("application/jsonx", 415),
        ] {
            let headers = [("host", "localhost"), ("content-type", kind)];
            assert_eq!(verdict(&Method::POST, "/", &headers), status, "{kind}");
            assert_eq!(verdict(&Method::GET, "/", &headers), 200, "{kind}");
        }
        assert_eq!(verdict(&Method::POST, "/", &[("host", "localhost")]), 200);
    }

    #[test]
    fn a_form_of_curls_is_taken_where_ollamas_users_send_it() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        for (path, more, status) in [
            ("/api/chat", None, 200),
            ("/v1/chat/completions", None, 415),
            ("/api/chat", Some(("origin", "http://localhost")), 415),
            ("/api/chat", Some(("sec-fetch-site", "none")), 415),
        ] {
            let mut headers = vec![("host", "localhost"), form];
            headers.extend(more);
            assert_eq!(verdict(&Method::POST, path, &headers), status, "{path} {more:?}");
        }
    }
}
