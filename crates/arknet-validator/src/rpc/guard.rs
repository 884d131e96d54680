//! Who may ask. No token: what is told is public, and who may change something signs it. But a page
//! of another site gets nothing: it would find out whose machine this is, and could make it work.

use std::net::IpAddr;

use arknet_chain::rpc::ErrorCode;
use arknet_types::Hosts;
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};

use super::answer::Refused;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Holds every request against what it says of itself.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: Hosts,
}

impl Guard {
    pub(super) fn new(listening: IpAddr, allowed: &[String]) -> Self {
        Self { hosts: Hosts::new(listening, allowed) }
    }

    /// Lets a request pass or says why not.
    pub(super) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let host = only(headers, &header::HOST)?.unwrap_or_default();
        let in_uri = uri.authority().map(axum::http::uri::Authority::as_str);
        if !self.hosts.contain(host) || in_uri.is_some_and(|other| !self.hosts.contain(other)) {
            let words = "this host name is not allowed: address the node as localhost, or add the \
                         name to the allowed hosts of the RPC";
            return Err(Refused::new(ErrorCode::HostNotAllowed, words));
        }
        let site = only(headers, &FETCH_SITE)?;
        let is_foreign = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
        if is_foreign || only(headers, &header::ORIGIN)?.is_some() {
            let words = "web pages may not use this node";
            return Err(Refused::new(ErrorCode::CrossSite, words));
        }
        if matches!(*method, Method::GET | Method::HEAD) { Ok(()) } else { json(headers) }
    }
}

/// A form can be sent by any page without asking; JSON cannot.
fn json(headers: &HeaderMap) -> Result<(), Refused> {
    let given = only(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let words = "send JSON, with the header 'Content-Type: application/json'";
    Err(Refused::new(ErrorCode::UnsupportedContentType, words))
}

/// The one value of a header that must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first.map(|value| value.to_str()), second) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => {
            let words = format!("the header {name} is repeated or not plain text");
            Err(Refused::new(ErrorCode::InvalidHeader, words))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn verdict(guard: &Guard, method: &Method, path: &str, pairs: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let checked = guard.check(method, &path.parse().unwrap(), &headers);
        checked.map_or_else(|refused| refused.code().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn programs_that_know_the_host_may_ask_and_pages_may_not() {
        let guard = Guard::new("127.0.0.1".parse().unwrap(), &["Box.lan:80".into()]);
        let get = |pairs: &[(&str, &str)]| verdict(&guard, &Method::GET, "/status", pairs);
        for host in ["localhost", "localhost:26657", "127.0.0.1:26657", "[::1]:26657", "box.LAN"] {
            assert_eq!(get(&[("host", host)]), "ok", "{host}");
        }
        for host in ["evil.example", "evil.example:26657", "", "127.0.0.1.evil.example", "[::1"] {
            assert_eq!(get(&[("host", host)]), "host_not_allowed", "{host}");
        }
        let rebound = "http://evil.example/status";
        let local = [("host", "localhost")];
        assert_eq!(verdict(&guard, &Method::GET, rebound, &local), "host_not_allowed");
        for sign in [
            ("origin", "http://localhost:26657"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(get(&[("host", "localhost"), sign]), "cross_site", "{sign:?}");
        }
        assert_eq!(get(&[("host", "localhost"), ("host", "evil.example")]), "invalid_header");
        let post = |kind| {
            let head = [("host", "localhost"), ("content-type", kind)];
            verdict(&guard, &Method::POST, "/transactions", &head)
        };
        assert_eq!(post("application/json; charset=utf-8"), "ok");
        assert_eq!(post("text/plain"), "unsupported_content_type");
    }

    #[test]
    fn on_all_addresses_numbers_are_known_and_names_are_not() {
        let guard = Guard::new("0.0.0.0".parse().unwrap(), &[]);
        let get = |host: &str| verdict(&guard, &Method::GET, "/status", &[("host", host)]);
        assert_eq!(get("192.168.1.9:26657"), "ok");
        assert_eq!(get("[fd00::1]"), "ok");
        assert_eq!(get("box.lan"), "host_not_allowed");
    }
}
