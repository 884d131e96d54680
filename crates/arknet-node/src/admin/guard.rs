//! Who may use the node API, and for what.
//!
//! A program on this machine may do everything, as `curl` does. What says of itself that it comes
//! through a browser or a proxy, or comes from another machine, needs the token to change anything,
//! and from another machine or through a proxy to read anything, too. A page of another origin, and
//! a host name that was made to mean this machine, get nothing at all.

use std::net::{IpAddr, SocketAddr};

use arknet_types::Hosts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

use super::{answer::ApiError, token::Token};
use crate::console;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What proxies add. A program on this machine that asks for itself has no reason to send one.
const PROXIED: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
/// What is told to everybody who may address this node at all, beside the files of the console,
/// which are the same everywhere.
const OPEN: [&str; 1] = ["/health"];
/// The console itself. A link of another site may lead there; what it then asks is its own.
const PAGE: &str = "/";

/// Holds every request against what it says of itself.
#[derive(Clone)]
pub(crate) struct Guard {
    hosts: Hosts,
    token: Token,
}

impl Guard {
    pub(crate) fn new(listening: IpAddr, allowed: &[String], token: Token) -> Self {
        Self { hosts: Hosts::new(listening, allowed), token }
    }

    /// Lets a request pass or says why not.
    pub(crate) fn check(
        &self,
        from: SocketAddr,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        let host = only(headers, &header::HOST)?.unwrap_or_default();
        let in_uri = uri.authority().map(axum::http::uri::Authority::as_str);
        if !self.hosts.contain(host) || in_uri.is_some_and(|other| !self.hosts.contain(other)) {
            let words = "this host name is not allowed: address the node as localhost, or add the \
                         name to admin.allowed_hosts";
            return Err(forbidden("host_not_allowed", words));
        }
        let origin = only(headers, &header::ORIGIN)?;
        if origin.is_some_and(|origin| !is_own(origin, host)) {
            let words = "web pages of other origins may not use this node";
            return Err(forbidden("origin_not_allowed", words));
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_page = is_read && uri.path() == PAGE;
        let site = only(headers, &FETCH_SITE)?;
        if !is_page && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            let words = "other web sites may not use this node";
            return Err(forbidden("cross_site", words));
        }
        if !is_read {
            json(headers)?;
        }
        let is_browser = origin.is_some() || site.is_some();
        let is_proxied = PROXIED.iter().any(|name| headers.contains_key(*name));
        let is_remote = !from.ip().to_canonical().is_loopback();
        let is_open = is_read && (OPEN.contains(&uri.path()) || console::is_file(uri.path()));
        let needs_token = !is_open && (is_proxied || is_remote || (is_browser && !is_read));
        self.check_token(headers, needs_token)
    }

    fn check_token(&self, headers: &HeaderMap, is_needed: bool) -> Result<(), ApiError> {
        let refuse = |code, words: &str| Err(ApiError::new(StatusCode::UNAUTHORIZED, code, words));
        let Some(given) = only(headers, &header::AUTHORIZATION)? else {
            return match is_needed {
                false => Ok(()),
                true => refuse(
                    "token_missing",
                    "from here this needs the token that lies in admin.token in the node's data \
                     directory, as Authorization: Bearer TOKEN",
                ),
            };
        };
        // A wrong one is refused where none is needed, too: somebody is mistaken about something.
        let (scheme, token) = given.split_once(' ').unwrap_or_default();
        match scheme.eq_ignore_ascii_case("bearer") && self.token.is(token.trim()) {
            true => Ok(()),
            false => refuse("token_wrong", "this is not the token of this node"),
        }
    }
}

fn forbidden(code: &'static str, words: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, words)
}

/// Whether a page of this origin came from where it now asks; a proxy may have added TLS.
fn is_own(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// A form can be sent by any page without asking; JSON cannot.
fn json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = only(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let words = "send JSON, with the header 'Content-Type: application/json'";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", words))
}

/// The one value of a header that must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => {
            let words = format!("the header {name} is repeated or not plain text");
            Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_header", words))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const HERE: &str = "127.0.0.1:5";
    const THERE: &str = "192.168.1.9:5";
    const JSON: (&str, &str) = ("content-type", "application/json");
    const GOOD: (&str, &str) = ("authorization", "Bearer secret");

    fn verdict(
        guard: &Guard,
        from: &str,
        method: &Method,
        path: &str,
        pairs: &[(&str, &str)],
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let checked = guard.check(from.parse().unwrap(), method, &path.parse().unwrap(), &headers);
        checked.map_or_else(|error| error.code.to_owned(), |()| "ok".to_owned())
    }

    fn local() -> Guard {
        Guard::new("127.0.0.1".parse().unwrap(), &["Box.lan:80".into()], Token::of("secret"))
    }

    #[test]
    fn a_program_on_this_machine_may_do_everything() {
        let guard = local();
        for host in ["localhost", "localhost:8910", "127.0.0.1:8910", "[::1]:8910", "box.LAN"] {
            let head = [("host", host), JSON];
            assert_eq!(
                verdict(&guard, HERE, &Method::POST, "/peers/approve", &head),
                "ok",
                "{host}"
            );
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/peers/status", &head[..1]), "ok");
        }
        let form = [("host", "localhost"), ("content-type", "application/x-www-form-urlencoded")];
        let code = "unsupported_content_type";
        assert_eq!(verdict(&guard, HERE, &Method::POST, "/peers/approve", &form), code);
        assert_eq!(verdict(&guard, HERE, &Method::POST, "/peers/approve", &form[..1]), code);
    }

    #[test]
    fn other_names_other_pages_and_other_sites_get_nothing_not_even_with_the_token() {
        let guard = local();
        for host in ["evil.example", "evil.example:8910", "", "127.0.0.1.evil.example", "[::1"] {
            let head = [("host", host), JSON, GOOD];
            let code = "host_not_allowed";
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/health", &head), code, "{host}");
        }
        let rebound = "http://evil.example/peers/approve";
        let head = [("host", "localhost"), JSON, GOOD];
        assert_eq!(verdict(&guard, HERE, &Method::POST, rebound, &head), "host_not_allowed");
        for origin in
            ["http://evil.example", "null", "http://localhost:3000", "ftp://localhost:8910"]
        {
            let head = [("host", "localhost:8910"), ("origin", origin), JSON, GOOD];
            let code = "origin_not_allowed";
            assert_eq!(verdict(&guard, HERE, &Method::POST, "/x", &head), code, "{origin}");
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/x", &head), code, "{origin}");
        }
        for site in ["cross-site", "same-site", "odd"] {
            let head = [("host", "localhost"), ("sec-fetch-site", site), JSON, GOOD];
            assert_eq!(verdict(&guard, HERE, &Method::POST, "/x", &head), "cross_site", "{site}");
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/x", &head), "cross_site", "{site}");
            let script = verdict(&guard, HERE, &Method::GET, "/web/console.js", &head);
            assert_eq!(script, "cross_site", "{site}");
            assert_eq!(verdict(&guard, HERE, &Method::POST, "/", &head), "cross_site", "{site}");
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/", &head), "ok", "a link: {site}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(verdict(&guard, HERE, &Method::GET, "/x", &twice), "invalid_header");
    }

    #[test]
    fn a_browser_reads_freely_and_changes_with_the_token() {
        let guard = local();
        for sign in [
            ("origin", "http://localhost:8910"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            let head = [("host", "localhost:8910"), sign, JSON, GOOD];
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/x", &head[..3]), "ok");
            assert_eq!(verdict(&guard, HERE, &Method::POST, "/x", &head[..3]), "token_missing");
            assert_eq!(verdict(&guard, HERE, &Method::POST, "/x", &head), "ok");
        }
        for wrong in ["Bearer other", "Bearer", "Basic secret", "secret", ""] {
            let head = [("host", "localhost"), ("authorization", wrong)];
            assert_eq!(verdict(&guard, HERE, &Method::GET, "/x", &head), "token_wrong", "{wrong}");
        }
    }

    #[test]
    fn who_comes_through_a_proxy_or_from_elsewhere_needs_the_token_for_all_but_health() {
        let everywhere = Guard::new("0.0.0.0".parse().unwrap(), &[], Token::of("secret"));
        let mut cases =
            vec![(THERE, ("accept", "*/*")), ("[::ffff:192.168.1.9]:5", ("accept", "*/*"))];
        cases.extend(PROXIED.map(|name| (HERE, (name, "192.168.1.9"))));
        for (from, sign) in cases {
            let head = [("host", "192.168.1.20:8910"), sign, JSON, GOOD];
            let check = |method, path, head: &[_]| verdict(&everywhere, from, method, path, head);
            for path in ["/health", "/", "/web/console.js"] {
                assert_eq!(check(&Method::GET, path, &head[..2]), "ok", "{sign:?} {path}");
            }
            assert_eq!(
                check(&Method::GET, "/peers/status", &head[..2]),
                "token_missing",
                "{sign:?}"
            );
            assert_eq!(check(&Method::POST, "/health", &head[..3]), "token_missing", "{sign:?}");
            assert_eq!(check(&Method::GET, "/peers/status", &head), "ok", "{sign:?}");
            assert_eq!(check(&Method::POST, "/peers/approve", &head), "ok", "{sign:?}");
        }
        let named = [("host", "box.lan"), GOOD];
        assert_eq!(verdict(&everywhere, THERE, &Method::GET, "/x", &named), "host_not_allowed");
        let here = [("host", "[::1]:8910"), JSON];
        assert_eq!(verdict(&everywhere, "[::1]:5", &Method::POST, "/x", &here), "ok");
    }
}
