//! `/v1/embeddings` and `/v1/rerank`.

use std::{cmp::Ordering, fmt};

use arknet_types::{InferRequest, Input, ModelName, RefusalCode, Usage, limits::TEXTS_MAX};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{content::Texts, request::model, response::write};
use crate::{ApiError, Gathered, json};

/// What a client wants embedded, and how it wants the vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingsAsked {
    /// What goes to the model.
    pub request: InferRequest,
    /// Whether vectors are written as base64 of their bytes.
    pub base64: bool,
    /// How many numbers of each vector to keep.
    pub dimensions: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EmbeddingParams {
    model: Option<String>,
    input: Option<Texts<{ TEXTS_MAX + 1 }>>,
    encoding_format: Option<Encoding>,
    dimensions: Option<u32>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Float,
    Base64,
}

/// Reads the body of `POST /v1/embeddings`.
pub fn embeddings(body: &[u8]) -> Result<EmbeddingsAsked, ApiError> {
    let params: EmbeddingParams = json::object(body).map_err(|error| match error.param() {
        Some("input[0]") => ApiError::parameter(
            "input[0]",
            "Send text, not the numbers of tokens, which are those of another model (LangChain: \
             check_embedding_ctx_length=False).",
        ),
        _ => error,
    })?;
    let model = model(params.model)?;
    // Token numbers are none of what may come: those of another model would be other words here.
    let input = params.input.ok_or_else(|| ApiError::missing("input"))?;
    if params.dimensions == Some(0) {
        return Err(ApiError::parameter("dimensions", "'dimensions' must be at least 1."));
    }
    let request = InferRequest::new(model, Input::Embed(input.texts));
    check(&request, "input")?;
    let base64 = params.encoding_format == Some(Encoding::Base64);
    Ok(EmbeddingsAsked { request, base64, dimensions: params.dimensions })
}

/// The body of the answer.
pub fn embeddings_json(
    model: &ModelName,
    mut answer: Gathered,
    base64: bool,
    dimensions: Option<u32>,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = 256;
    for vector in &mut answer.embeddings {
        if let Some(dimensions) = dimensions {
            shorten(vector, dimensions)?;
        }
        bytes += 64 + 14 * vector.len();
    }
    let data = answer.embeddings.iter().zip(0..).map(|(vector, index)| Embedding {
        object: "embedding",
        index,
        embedding: if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        } else {
            Vector::Floats(vector)
        },
    });
    let list = EmbeddingList {
        object: "list",
        data: data.collect(),
        model: model.as_str(),
        usage: answer.usage.into(),
    };
    let mut out = Vec::with_capacity(bytes);
    write(&mut out, &list);
    Ok(out)
}

/// Keeps the first numbers, and the length of one. Models that are made for it put what matters most
/// first.
fn shorten(vector: &mut Vec<f32>, dimensions: u32) -> Result<(), ApiError> {
    let (wanted, has) = (dimensions as usize, vector.len());
    if wanted > has {
        let message = format!("The vectors of this model have {has} dimensions.");
        return Err(ApiError::parameter("dimensions", message));
    }
    vector.truncate(wanted);
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    Ok(())
}

/// What a client wants ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankAsked {
    /// What goes to the model.
    pub request: InferRequest,
    /// How many of the best to tell.
    pub top_n: Option<u32>,
    /// Whether the answer repeats the documents.
    pub return_documents: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RerankParams {
    model: Option<String>,
    query: Option<String>,
    documents: Option<Vec<Document>>,
    top_n: Option<u32>,
    return_documents: Option<bool>,
}

/// A text, or an object with one.
#[derive(Debug)]
struct Document(String);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            text: String,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object with a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Document, E> {
                Ok(Document(text.into()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Document, E> {
                Ok(Document(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Document, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(fields)).map(|f| Document(f.text))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads the body of `POST /v1/rerank`.
pub fn rerank(body: &[u8]) -> Result<RerankAsked, ApiError> {
    let params: RerankParams = json::object(body)?;
    let model = model(params.model)?;
    let query = params.query.ok_or_else(|| ApiError::missing("query"))?;
    let documents = params.documents.ok_or_else(|| ApiError::missing("documents"))?;
    if params.top_n == Some(0) {
        return Err(ApiError::parameter("top_n", "'top_n' must be at least 1."));
    }
    let documents = documents.into_iter().map(|Document(text)| text).collect();
    let request = InferRequest::new(model, Input::Rerank { query, documents });
    check(&request, "documents")?;
    let return_documents = params.return_documents.unwrap_or_default();
    Ok(RerankAsked { request, top_n: params.top_n, return_documents })
}

/// The body of the answer, best first. `documents` are repeated in it; none are where that was not
/// asked for.
#[must_use]
pub fn rerank_json(
    id: &str,
    model: &ModelName,
    answer: &Gathered,
    top_n: Option<u32>,
    documents: &[String],
) -> Vec<u8> {
    let mut order: Vec<(usize, f32)> = answer.scores.iter().copied().enumerate().collect();
    // What is no number is no good; equals stay in the order they came.
    let rank = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    order.sort_by(|(_, a), (_, b)| rank(*b).partial_cmp(&rank(*a)).unwrap_or(Ordering::Equal));
    order.truncate(top_n.map_or(usize::MAX, |n| n as usize));
    let results = order.iter().map(|(index, score)| Ranked {
        index: *index,
        relevance_score: *score,
        document: documents.get(*index).map(|text| Text { text }),
    });
    let list = RankedList {
        id: format!("rerank-{id}"),
        object: "list",
        model: model.as_str(),
        results: results.collect(),
        usage: answer.usage.into(),
    };
    let mut out = Vec::with_capacity(256 + 64 * order.len());
    write(&mut out, &list);
    out
}

fn check(request: &InferRequest, param: &'static str) -> Result<(), ApiError> {
    request.check().map_err(|refusal| {
        let code = refusal.code;
        let error = ApiError::from_refusal(refusal);
        let about = matches!(code, RefusalCode::InvalidRequest | RefusalCode::TooLarge);
        if about { error.about(param) } else { error }
    })
}

#[derive(Serialize)]
struct EmbeddingList<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: InputCounts,
}

#[derive(Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: u32,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Floats(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct RankedList<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<Ranked<'a>>,
    usage: InputCounts,
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct InputCounts {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl From<Usage> for InputCounts {
    fn from(usage: Usage) -> Self {
        Self { prompt_tokens: usage.prompt_tokens, total_tokens: usage.prompt_tokens }
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::PublicKey;

    use super::*;

    fn answer() -> Gathered {
        let usage = Usage { prompt_tokens: 5, ..Usage::default() };
        Gathered { usage, ..Gathered::new(PublicKey([0; 32])) }
    }

    #[test]
    fn what_is_embedded_is_mapped() {
        for (json, texts, base64, dimensions) in [
            (r#""input":"a""#, &["a"][..], false, None),
            (r#""input":["a","b"],"encoding_format":"float","user":"u""#, &["a", "b"], false, None),
            (r#""input":[""],"encoding_format":"base64","dimensions":2"#, &[""], true, Some(2)),
        ] {
            let asked = embeddings(format!(r#"{{"model":"m",{json}}}"#).as_bytes()).unwrap();
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(asked.request.input, Input::Embed(texts), "{json}");
            assert_eq!((asked.base64, asked.dimensions), (base64, dimensions), "{json}");
        }
        let many = vec!["\"a\""; TEXTS_MAX + 1].join(",");
        for (json, param) in [
            (r#""model":"m""#.to_owned(), "input"),
            (r#""input":"a""#.to_owned(), "model"),
            (r#""model":"m","input":[]"#.to_owned(), "input"),
            (r#""model":"m","input":[1,2]"#.to_owned(), "input[0]"),
            (r#""model":"m","input":[[1,2]]"#.to_owned(), "input[0]"),
            (r#""model":"m","input":{}"#.to_owned(), "input"),
            (r#""model":"m","input":"a","encoding_format":"hex""#.to_owned(), "encoding_format"),
            (r#""model":"m","input":"a","dimensions":0"#.to_owned(), "dimensions"),
            (format!(r#""model":"m","input":[{many}]"#), "input"),
        ] {
            let error = embeddings(format!("{{{json}}}").as_bytes()).unwrap_err();
            assert_eq!((error.status().as_u16(), error.param()), (400, Some(param)), "{json}");
        }
    }

    #[test]
    fn vectors_have_openais_shape() {
        let model = ModelName::new("m").unwrap();
        let whole =
            || Gathered { embeddings: vec![vec![0.6, 0.0, 0.8], vec![1.0, 0.0, 0.0]], ..answer() };
        let json = embeddings_json(&model, whole(), false, None).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,0.0,0.8]},{"object":"embedding","index":1,"embedding":[1.0,0.0,0.0]}],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}"#
        );
        let json =
            String::from_utf8(embeddings_json(&model, whole(), true, Some(1)).unwrap()).unwrap();
        // Cut, and of length one again: 1.0 in little endian.
        assert!(json.contains(r#""index":0,"embedding":"AACAPw==""#), "{json}");
        let error = embeddings_json(&model, whole(), false, Some(4)).unwrap_err();
        assert_eq!(error.param(), Some("dimensions"));
    }

    #[test]
    fn what_is_ranked_is_mapped() {
        let body = br#"{"model":"m","query":"q","documents":["a",{"text":"b","id":1}],"top_n":1,"return_documents":true,"rank_fields":[]}"#;
        let asked = rerank(body).unwrap();
        let documents = vec!["a".into(), "b".into()];
        assert_eq!(asked.request.input, Input::Rerank { query: "q".into(), documents });
        assert_eq!((asked.top_n, asked.return_documents), (Some(1), true));
        for (json, param) in [
            (r#""query":"q","documents":["a"]"#, "model"),
            (r#""model":"m","documents":["a"]"#, "query"),
            (r#""model":"m","query":"q""#, "documents"),
            (r#""model":"m","query":"q","documents":[]"#, "documents"),
            (r#""model":"m","query":"q","documents":[{}]"#, "documents[0].text"),
            (r#""model":"m","query":"q","documents":[5]"#, "documents[0]"),
            (r#""model":"m","query":"q","documents":["a"],"top_n":0"#, "top_n"),
            (r#""model":"m","query":"q","documents":["a"],"top_n":-1"#, "top_n"),
        ] {
            let error = rerank(format!("{{{json}}}").as_bytes()).unwrap_err();
            assert_eq!((error.status().as_u16(), error.param()), (400, Some(param)), "{json}");
        }
    }

    #[test]
    fn the_best_come_first() {
        let model = ModelName::new("m").unwrap();
        let scored = Gathered { scores: vec![-1.0, 2.5, f32::NAN, 2.5], ..answer() };
        let documents = ["a", "b", "c", "d"].map(String::from);
        let json = rerank_json("1f", &model, &scored, Some(3), &documents);
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"id":"rerank-1f","object":"list","model":"m","results":[{"index":1,"relevance_score":2.5,"document":{"text":"b"}},{"index":3,"relevance_score":2.5,"document":{"text":"d"}},{"index":0,"relevance_score":-1.0,"document":{"text":"a"}}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#
        );
    }
}
