use arknet_types::{Image, ImageFormat};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::ApiError;

/// Takes base64 with and without padding: clients differ.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a picture from a `data:` URL. Nothing is fetched: who could make the node fetch a URL could
/// reach whatever the node can.
pub(crate) fn from_url(url: &str, param: &str) -> Result<Image, ApiError> {
    let data = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let Some((kind, text)) = data.and_then(|_| url[5..].split_once(',')) else {
        return Err(refuse(
            param,
            "Pictures are taken as 'data:image/png;base64,..' URLs only: this node does not fetch them.",
        ));
    };
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err(refuse(param, "A picture in a data: URL must be written in base64."));
    }
    from_base64(text, param)
}

/// Reads a picture from base64. What it is, its first bytes say.
pub(crate) fn from_base64(text: &str, param: &str) -> Result<Image, ApiError> {
    let bytes = LENIENT
        .decode(text)
        .map_err(|_| refuse(param, "The picture is not written in valid base64."))?;
    let format = ImageFormat::of(&bytes)
        .ok_or_else(|| refuse(param, "A picture must be a PNG, JPEG, GIF or WebP file."))?;
    Ok(Image { format, bytes })
}

fn refuse(param: &str, message: &str) -> ApiError {
    ApiError::parameter(param.to_owned(), message).code("invalid_image")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_inside_the_request() {
        let png = "iVBORw0KGgo=";
        for (url, accepted) in [
            (format!("data:image/png;base64,{png}"), true),
            // What the URL says it is does not count.
            (format!("DATA:image/jpeg;BASE64,{png}"), true),
            (format!("data:image/png;base64,{}", png.trim_end_matches('=')), true),
            (format!("data:image/png,{png}"), false),
            ("data:image/png;base64,!".into(), false),
            ("data:image/svg+xml;base64,PHN2Zz4=".into(), false),
            ("data:".into(), false),
            ("http://127.0.0.1/x.png".into(), false),
            ("https://example.org/x.png".into(), false),
            ("file:///etc/passwd".into(), false),
            ("\u{e9}\u{e9}\u{e9}".into(), false),
            (String::new(), false),
        ] {
            match from_url(&url, "p") {
                Ok(image) => {
                    assert!(accepted, "{url}");
                    assert_eq!(image.format, ImageFormat::Png);
                }
                Err(error) => {
                    assert!(!accepted, "{url}");
                    assert_eq!(
                        (error.param(), error.stable_code()),
                        (Some("p"), Some("invalid_image"))
                    );
                }
            }
        }
    }
}
