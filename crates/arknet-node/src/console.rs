//! The console: a page inside this program, and the policy under which a browser shows it.
//!
//! The page is plain files in `web/`, served as they are. It speaks to the node API as any other
//! program does; nothing here knows what it asks.

use axum::{
    Router,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// Nothing from elsewhere, nothing inline, no frame around it; text can become neither markup nor
/// script (trusted types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, media type, content.
const FILES: [(&str, &str, &str); 8] = [
    ("/", HTML, include_str!("../web/index.html")),
    ("/web/api.js", SCRIPT, include_str!("../web/api.js")),
    ("/web/console.css", CSS, include_str!("../web/console.css")),
    ("/web/console.js", SCRIPT, include_str!("../web/console.js")),
    ("/web/dialogs.js", SCRIPT, include_str!("../web/dialogs.js")),
    ("/web/icon.svg", SVG, include_str!("../web/icon.svg")),
    ("/web/page.js", SCRIPT, include_str!("../web/page.js")),
    ("/web/words.js", SCRIPT, include_str!("../web/words.js")),
];

/// The routes of the page. They hold nothing of the node, so anybody who reaches it may have them.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, media_type, content)| {
        router.route(path, get(async || file(media_type, content)))
    })
}

/// Whether `path` is one of the page's own files.
pub(crate) fn is_file(path: &str) -> bool {
    FILES.iter().any(|(known, ..)| *known == path)
}

fn file(media_type: &'static str, content: &'static str) -> Response {
    (HEADERS, [(header::CONTENT_TYPE, media_type)], content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markup() -> &'static str {
        FILES[0].2
    }

    #[test]
    fn every_file_that_is_named_is_served() {
        let scripts = FILES.iter().filter(|(_, media_type, _)| *media_type == SCRIPT);
        let imports = scripts.flat_map(|(_, _, text)| text.split("from \"./").skip(1));
        let attributes = ["src=\"", "href=\""].into_iter().flat_map(|a| markup().split(a).skip(1));
        let named = imports.map(|rest| format!("/web/{}", rest.split('"').next().unwrap()));
        let named =
            named.chain(attributes.map(|rest| format!("/{}", rest.split('"').next().unwrap())));
        let named: Vec<String> = named.collect();
        assert!(named.len() > FILES.len(), "{named:?}");
        for path in &named {
            assert!(is_file(path), "{path}");
        }
        for (path, ..) in &FILES[1..] {
            assert!(named.iter().any(|name| name == path), "nothing uses {path}");
        }
    }

    #[test]
    fn the_page_has_nothing_that_its_policy_refuses() {
        assert!(!markup().contains(" style="));
        assert!(!markup().contains("<style"));
        let holds_script = |rest: &str| {
            rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).starts_with('=')
        };
        assert!(!markup().split(" on").skip(1).any(holds_script), "an attribute that holds script");
        assert_eq!(
            markup().matches("<script").count(),
            markup().matches("<script type=\"module\" src=").count()
        );
        for (path, _, text) in FILES {
            for elsewhere in ["http://", "https://", "//cdn"] {
                let own = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!own.contains(elsewhere), "{path} names {elsewhere}");
            }
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(sink), "{path} uses {sink}");
            }
        }
    }
}
