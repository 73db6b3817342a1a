//! Files of a folder that isn't a model, of which one may be what was meant.

use std::fmt;
use std::path::Path;

use teff_graph::gguf::Name;

use super::error::boxed;

/// File in a folder that lacks what makes it a model.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Instead {
    /// A GGUF file; of several, the first by name.
    Gguf(Box<Name>),
    /// A SafeTensors file of another name than a folder's weights; of several, the first by name.
    SafeTensors(Box<Name>),
    /// An adapter, which is a part of a model.
    Adapter,
    /// Weights as PyTorch pickles.
    Pickle,
}

/// Maximum number of entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

impl Instead {
    /// File that names what to do with a folder, if there is one.
    pub(super) fn find(folder: &Path) -> Option<Instead> {
        const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
        let entries = std::fs::read_dir(folder).ok()?.take(MAX_ENTRIES);
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        let ends = |end: &str| names.iter().find(|name| name.to_ascii_lowercase().ends_with(end));
        if let Some(name) = ends(".gguf") {
            return Some(Instead::Gguf(boxed(name)));
        }
        if names.iter().any(|name| ADAPTER.contains(&&**name)) {
            return Some(Instead::Adapter);
        }
        if let Some(name) = ends(".safetensors") {
            return Some(Instead::SafeTensors(boxed(name)));
        }
        let pickle = |name: &String| name.starts_with("pytorch_model") && name.contains(".bin");
        names.iter().any(pickle).then_some(Instead::Pickle)
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instead::Gguf(name) => write!(f, "give a GGUF file in it, such as {name}"),
            Instead::SafeTensors(name) => write!(
                f,
                "of the files {name} and so on, fetch the index if they are shards, or give the \
                 one that is the whole model"
            ),
            Instead::Adapter => f.write_str(
                "it has an adapter, which isn't applied: merge it into its model and give that",
            ),
            Instead::Pickle => f.write_str("convert its pytorch_model files to SafeTensors"),
        }
    }
}
