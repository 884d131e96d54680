//! Which model to load and how, and what that will take.

use std::{
    io::{Error, ErrorKind, Read, Result as IoResult, Write},
    path::{Path, PathBuf},
};

use arknet_chat::ChatTemplate;
use arknet_kernels::Kernels;
use arknet_provider::{ModelDetails, ModelInfo};
use arknet_types::{Capabilities, ModelDigest, ModelName, Profile};
use borsh::{BorshDeserialize, BorshSerialize};

use super::{
    LoadError, native,
    plan::{Facts, Plan, Wishes, memory_bytes_available, plan},
};
use crate::gguf::{GgufInfo, ProjectorInfo, Purpose};

/// Elements of a key or value that are stored together in eight bits.
const Q8_ELEMENTS: u64 = 32;

/// Which model to load, and how.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug)]
pub struct LlamaOptions {
    /// What requests call it.
    pub name: ModelName,
    /// The hash of the file. Not computed here: hashing belongs where a file is added.
    pub digest: ModelDigest,
    /// The GGUF file.
    #[borsh(serialize_with = "write_path", deserialize_with = "read_path")]
    pub path: PathBuf,
    /// The GGUF file of its projector, with which it takes pictures.
    #[borsh(serialize_with = "write_some_path", deserialize_with = "read_some_path")]
    pub projector: Option<PathBuf>,
    /// The hash of that file, or of one that is not used now.
    pub projector_digest: Option<ModelDigest>,
    /// Tokens of input and answer together. None takes what the model was trained on, at most
    /// 8,192, and less when memory is short.
    pub context_tokens: Option<u32>,
    /// Requests answered at once, at most 256. None lets memory decide, at most 16.
    pub slots: Option<u16>,
    /// Threads that compute. None takes the processor's cores, and fewer for a small model.
    pub threads: Option<usize>,
    /// Memory for weights and caches, at most. None leaves three quarters of what is free beside
    /// the weights alone.
    pub memory_bytes_max: Option<u64>,
    /// Memory for what ended conversations left, beside what stays in free slots, at most. 0 keeps
    /// nothing there. None takes an eighth of the caches' share, at most 512 MiB.
    pub prefix_cache_bytes_max: Option<u64>,
    /// How the numbers are computed. [`Profile::Exact`] is slower, and serves requests for both.
    pub profile: Profile,
    /// Tokens that an answer guesses at once from what was said before, at most; answers stay what
    /// they are, and those that repeat something come sooner. 0 guesses nothing, none takes 8.
    pub draft_tokens_max: Option<u16>,
    /// Computes as every processor of the last ten years can: slower on newer ones, with the bits of
    /// any of them.
    pub portable_kernels: bool,
    /// Layers on the graphics card, in builds that can use one. None puts all there.
    pub gpu_layers: Option<u32>,
}

impl LlamaOptions {
    /// A model with everything else left to us.
    #[must_use]
    pub fn new(name: ModelName, digest: ModelDigest, path: impl Into<PathBuf>) -> Self {
        Self {
            name,
            digest,
            path: path.into(),
            projector: None,
            projector_digest: None,
            context_tokens: None,
            slots: None,
            threads: None,
            memory_bytes_max: None,
            prefix_cache_bytes_max: None,
            profile: Profile::Default,
            draft_tokens_max: None,
            portable_kernels: false,
            gpu_layers: None,
        }
    }

    pub(super) fn kernels(&self) -> Kernels {
        if self.portable_kernels { Kernels::Portable } else { Kernels::best() }
    }
}

/// What a model will be and take, known before it is loaded.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What it will say of itself.
    pub info: ModelInfo,
    /// All the memory it takes: weights, caches, room to compute and what ended conversations left.
    pub memory_bytes: u64,
    /// Of that, the weights, which the system may share between processes that read the same file.
    pub weights_bytes: u64,
    pub(super) plan: Plan,
}

impl Survey {
    /// The same options with every choice made, so that loading repeats this survey whatever
    /// happens to free memory in between.
    #[must_use]
    pub fn pin(&self, options: &LlamaOptions) -> LlamaOptions {
        LlamaOptions {
            context_tokens: Some(self.plan.context_tokens),
            slots: Some(self.plan.slots),
            threads: Some(usize::from(self.plan.threads)),
            memory_bytes_max: Some(self.memory_bytes),
            prefix_cache_bytes_max: Some(self.plan.prefix_cache_bytes),
            ..options.clone()
        }
    }
}

/// Looks at a model file and plans, on this machine as it is now. Reads the file's head and loads
/// nothing.
pub fn survey(options: &LlamaOptions) -> Result<Survey, LoadError> {
    survey_with(options, memory_bytes_available())
}

/// The same as [`survey`] as if this much memory were free: what there is, and what unloading
/// others would bring.
pub fn survey_with(options: &LlamaOptions, available_bytes: u64) -> Result<Survey, LoadError> {
    let path = &options.path;
    let file =
        GgufInfo::read(path).map_err(|cause| LoadError::Gguf { path: path.clone(), cause })?;
    if file.purpose == Purpose::Translate {
        return Err(LoadError::NotServed { path: path.clone(), architecture: file.architecture });
    }
    if options.profile == Profile::Exact {
        check_exact(path, &file)?;
    }
    let projector = options.projector.as_deref().map(|path| look(path, &file)).transpose()?;
    let asked_tokens = options.context_tokens.unwrap_or(0);
    if !file.has_rotary_positions && asked_tokens > file.context_tokens {
        let trained_tokens = file.context_tokens;
        return Err(LoadError::Positions { path: path.clone(), asked_tokens, trained_tokens });
    }
    let wishes = Wishes {
        context_tokens: options.context_tokens,
        slots: options.slots,
        memory_bytes_max: options.memory_bytes_max,
        threads: options.threads,
        prefix_cache_bytes_max: options.prefix_cache_bytes_max,
    };
    let facts = Facts::of(&file, projector.as_ref(), options.profile, available_bytes);
    let plan = plan(facts, wishes).map_err(|shortage| shortage.into_error(path))?;
    Ok(Survey {
        memory_bytes: plan.memory_bytes,
        weights_bytes: file.tensor_bytes,
        info: ModelInfo {
            name: options.name.clone(),
            digest: Some(options.digest),
            projector: options.projector_digest,
            capabilities: capabilities(&file, projector.is_some(), options.profile),
            context_tokens: plan.context_tokens,
            slots: plan.slots,
            details: details(file, options.kernels()),
        },
        plan,
    })
}

/// What a projector for this model says of itself.
fn look(path: &Path, model: &GgufInfo) -> Result<ProjectorInfo, LoadError> {
    let info = ProjectorInfo::read(path)
        .map_err(|cause| LoadError::Gguf { path: path.to_owned(), cause })?;
    match info.fits(model) {
        true => Ok(info),
        false => Err(LoadError::Projector { path: path.to_owned() }),
    }
}

fn check_exact(path: &Path, file: &GgufInfo) -> Result<(), LoadError> {
    let (key, value) = file.head_lengths;
    let fits = |length: u64| length > 0 && length.is_multiple_of(Q8_ELEMENTS);
    if file.purpose == Purpose::Generate && fits(key) && fits(value) {
        return Ok(());
    }
    Err(LoadError::NotExact { path: path.to_owned() })
}

fn capabilities(file: &GgufInfo, sees: bool, profile: Profile) -> Capabilities {
    let all = Capabilities::TOKENIZE.with(Capabilities::RERANK);
    match file.purpose {
        Purpose::Rank | Purpose::Translate => all,
        // Models without a head for ranking compare vectors.
        Purpose::Embed => all.with(Capabilities::EMBED),
        Purpose::Generate => {
            let all = all
                .with(Capabilities::GENERATE)
                .with(Capabilities::EMBED)
                .with(Capabilities::LOGPROBS)
                .with(Capabilities::CONSTRAINED)
                .with(chat_capabilities(file.chat_template.as_deref()));
            match profile {
                Profile::Default if sees => all.with(Capabilities::VISION),
                Profile::Default => all,
                // A picture is computed in one way alone, and nothing checks its bits.
                Profile::Exact => all.with(Capabilities::EXACT),
            }
        }
    }
}

/// What the chat template brings. Models whose template knows no tools are told of them in words.
fn chat_capabilities(template: Option<&str>) -> Capabilities {
    let Some(template) = template else {
        return Capabilities::NONE;
    };
    match ChatTemplate::new(template.to_owned(), String::new(), String::new()) {
        Ok(template) if template.features().reasoning => {
            Capabilities::TOOLS.with(Capabilities::REASONING)
        }
        Ok(_) => Capabilities::TOOLS,
        Err(_) => Capabilities::NONE,
    }
}

fn details(file: GgufInfo, kernels: Kernels) -> ModelDetails {
    ModelDetails {
        parameters: Some(file.parameters),
        quantization: file.quantization.map(str::to_owned),
        file_bytes: Some(file.file_bytes),
        embedding_dimensions: Some(file.embedding_length).filter(|n| *n > 0),
        template: file.chat_template,
        build_class: Some(native::build_class(kernels)),
        architecture: Some(file.architecture),
    }
}

fn write_path<W: Write>(path: &Path, writer: &mut W) -> IoResult<()> {
    let text = path.to_str().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no UTF-8"))?;
    text.serialize(writer)
}

fn read_path<R: Read>(reader: &mut R) -> IoResult<PathBuf> {
    Ok(String::deserialize_reader(reader)?.into())
}

fn write_some_path<W: Write>(path: &Option<PathBuf>, writer: &mut W) -> IoResult<()> {
    let text = path.as_ref().map(|path| path.to_str().ok_or(ErrorKind::InvalidInput));
    text.transpose()?.serialize(writer)
}

fn read_some_path<R: Read>(reader: &mut R) -> IoResult<Option<PathBuf>> {
    Ok(Option::<String>::deserialize_reader(reader)?.map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_travel_as_bytes() {
        let name = ModelName::new("a/b").unwrap();
        let options = LlamaOptions {
            threads: Some(3),
            projector: Some("/x/z.gguf".into()),
            profile: Profile::Exact,
            ..LlamaOptions::new(name, ModelDigest([7; 32]), "/x/y.gguf")
        };
        let bytes = borsh::to_vec(&options).unwrap();
        let back: LlamaOptions = borsh::from_slice(&bytes).unwrap();
        assert_eq!(format!("{back:?}"), format!("{options:?}"));
    }
}
