//! Models: a GGUF file or a Hugging Face folder, validated, with its weights used in place.
//!
//! [`Model::open`] maps the files and checks everything that later code relies on:
//! hyper-parameters, and the name, shape, format and bounds of every tensor. Tensors that can't be
//! used in place are converted into owned memory, whose size is known (and compared to
//! [`LoadOptions::budget`]) before it is allocated:
//!
//! - vectors that are not aligned f32 become f32;
//! - matrices that a Hugging Face file stores with inputs as rows are transposed, element type kept;
//! - vectors to which a family adds an offset get it, unless their file already includes it;
//! - ternary matrices in another type become I2_S;
//! - with [`LoadOptions::quantize`] and [`LoadOptions::head`], matrices are quantised;
//! - with [`LoadOptions::repack`], matrices are stored in the order that a backend reads fastest.
//!
//! A tensor that no part of the model uses is an error that names it: it belongs to a variant that
//! would be computed incorrectly. Only tensors that a family knows to hold no parameters (the
//! causal masks of old GPT-2 files, tables of rotary embeddings) are ignored, and the other parts of
//! a model for texts and images, of which the text model is used.
//!
//! Files that contradict themselves are read by written rules (`docs/compatibility.md`), each with a
//! [`Warning`].

mod convert;
mod dequantize;
mod error;
mod folder;
mod gguf;
mod instead;
mod special;
mod template;
mod tensor_table;
mod ternary;
pub(crate) mod vocabulary;
mod warning;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use teff_graph::family::{Family, Notice, Rule};
use teff_graph::gguf::Name;
use teff_graph::meta::{Metadata, Value};
use teff_graph::{Head, Role, Spec, SpecRoom, Tensor, TensorId};
use teff_kernels::{Cpu, Format, Matrix};

use crate::config::Config;
use crate::gguf_split::Parts;
use crate::storage::{Aligned, Bytes, open_file};
use crate::tokenizer::{Tokenizer, TokenizerError};

pub use error::{Dims, LoadError, LoadErrorKind};
pub use instead::Instead;
#[cfg(feature = "chat")]
pub(crate) use special::special_token_texts;
pub use template::{ChatTemplateError, ChatTemplates};
pub use warning::Warning;

use folder::{FolderFiles, Packing};
use gguf::GgufTensors;
use tensor_table::{Budget, Entry, TensorTable, repacked_size};

/// Options of opening a model.
///
/// ```
/// # fn main() -> Result<(), teff_runtime::LoadError> {
/// use teff_runtime::{LoadOptions, Model};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let options = LoadOptions::default().with_mmap(false).with_budget(64 << 20);
/// let model = Model::open_with(path, &options)?;
/// assert!(model.owned_bytes() >= model.file_bytes());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadOptions {
    /// Map files instead of reading them (the default). If the system or the build does not support
    /// mapping, files are read.
    ///
    /// While a model is in use, no one may truncate a mapped file (the process would be killed) or
    /// write to it (results would change); disable mapping if that can't be ruled out.
    pub mmap: bool,
    /// Quantise matrices in F32, F16 and BF16 to this format when loading; it must be one for which
    /// [`Format::is_quantized`] is true. Position embeddings keep their format, and so does a matrix
    /// whose rows are not whole blocks ([`Format::block_len`]). A matrix that is already quantised
    /// in another format is an error.
    ///
    /// The ternary formats are for models that were trained with weights of -1, 0 and 1, which
    /// they keep as they are; of other weights little is left. The scale is the largest magnitude
    /// (of 256 weights, or of the matrix in I2_S), since any other would change such weights.
    ///
    /// Without the feature `quantize` this is an error, and so is `head`.
    pub quantize: Option<Format>,
    /// Quantise the head to this format when loading, if it is in F32, F16 or BF16: all of it is
    /// read for every token. A head that is also the embedding becomes a copy of it.
    pub head: Option<Format>,
    /// Copy matrices into the order that this backend reads fastest, if it has one for their
    /// format ([`Backend::repacks`](teff_kernels::Backend::repacks)): the bits stay the same, and
    /// decoding is faster. The copies take as much memory as the matrices (with rows padded to
    /// multiples of sixteen), which counts in `budget` and in [`Model::owned_bytes`]; these matrices
    /// are read from the file only once, when loading.
    ///
    /// Not repacked: embeddings of which single rows are read (a tied head is read whole), and
    /// matrices of fewer than sixteen rows. A session whose backend does not repack the formats of
    /// these copies is an error. Without the feature `repack`, this has no effect.
    pub repack: Option<Cpu>,
    /// Repack only if the copies take at most this many bytes and fit into `budget`: otherwise all
    /// matrices stay as they are, which [`Model::repacked_bytes`] tells. `None` to repack in any case.
    pub repack_limit: Option<u64>,
    /// Maximum number of bytes that loading may allocate for files that are read and tensors that
    /// are converted; beyond it, loading fails before it allocates. The tokenizer and tables of some
    /// kilobytes don't count.
    pub budget: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            mmap: true,
            quantize: None,
            head: None,
            repack: None,
            repack_limit: None,
            budget: None,
        }
    }
}

impl LoadOptions {
    /// Sets [`mmap`](Self::mmap).
    #[must_use]
    pub const fn with_mmap(self, mmap: bool) -> Self {
        LoadOptions { mmap, ..self }
    }

    /// Sets [`quantize`](Self::quantize).
    #[must_use]
    pub const fn with_quantize(self, format: Format) -> Self {
        LoadOptions { quantize: Some(format), ..self }
    }

    /// Sets [`head`](Self::head).
    #[must_use]
    pub const fn with_head(self, format: Format) -> Self {
        LoadOptions { head: Some(format), ..self }
    }

    /// Sets [`repack`](Self::repack).
    #[must_use]
    pub const fn with_repack(self, backend: Cpu) -> Self {
        LoadOptions { repack: Some(backend), ..self }
    }

    /// Sets [`repack_limit`](Self::repack_limit).
    #[must_use]
    pub const fn with_repack_limit(self, bytes: u64) -> Self {
        LoadOptions { repack_limit: Some(bytes), ..self }
    }

    /// Sets [`budget`](Self::budget).
    #[must_use]
    pub const fn with_budget(self, bytes: u64) -> Self {
        LoadOptions { budget: Some(bytes), ..self }
    }
}

/// Container of a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Container {
    /// A GGUF file, or the parts of a split one.
    Gguf {
        /// Version of the format.
        version: u32,
        /// Number of files.
        files: usize,
    },
    /// A Hugging Face folder.
    Folder {
        /// Number of SafeTensors files.
        files: usize,
    },
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Container::Gguf { version, files: 1 } => write!(f, "GGUF version {version}"),
            Container::Gguf { version, files } => {
                write!(f, "GGUF version {version} in {files} parts")
            }
            Container::Folder { files: 1 } => f.write_str("Hugging Face folder"),
            Container::Folder { files } => write!(f, "Hugging Face folder of {files} shards"),
        }
    }
}

/// Description of a tensor, for listings.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Number of the tensor.
    pub id: TensorId,
    /// Role of the tensor.
    pub role: Role,
    /// Name in the container.
    pub name: String,
    /// Format in memory, which may differ from the file's.
    pub format: Format,
    /// Number of stacked matrices of this shape, one for each expert; otherwise 1.
    pub experts: usize,
    /// Number of outputs; 1 for a vector.
    pub rows: usize,
    /// Number of inputs, or elements of the vector.
    pub cols: usize,
    /// Bytes in memory.
    pub bytes: usize,
    /// True if it is used in place in the file.
    pub in_place: bool,
    /// True if it was repacked ([`LoadOptions::repack`]).
    pub repacked: bool,
}

/// Model that is ready to run. It never changes and may be shared by threads.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teff_runtime::Model;
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
/// let model = Model::open(path)?;
/// let spec = model.spec();
/// assert_eq!((spec.arch, spec.layers.len()), ("gpt2", 6));
/// for tensor in model.tensor_infos().take(3) {
///     println!("{} {} {}x{}", tensor.name, tensor.format, tensor.rows, tensor.cols);
/// }
/// assert!(model.tokenizer().is_ok());
/// # Ok(()) }
/// ```
pub struct Model {
    spec: Spec<'static>,
    family: &'static Family,
    container: Container,
    name: Option<String>,
    tokenizer: Result<Tokenizer, TokenizerError>,
    chat_templates: Result<ChatTemplates, ChatTemplateError>,
    special_tokens: special::Texts,
    warnings: Vec<Warning>,
    files: Vec<Bytes>,
    owned: Aligned,
    table: Vec<Entry>,
    factors: Vec<f32>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("container", &self.container)
            .field("name", &self.name)
            .field("spec", &self.spec)
            .field("tokenizer", &self.tokenizer)
            .field("files", &self.files)
            .field("owned", &self.owned.len())
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens a model with [`LoadOptions::default`]; see [`Model::open_with`].
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the cause.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, LoadError> {
        Model::open_with(path, &LoadOptions::default())
    }

    /// Opens a GGUF file, any part of a split one, a Hugging Face folder, or a SafeTensors file with
    /// its config.json beside it. Files are recognised by their first bytes.
    ///
    /// The parts of a split GGUF file are found by their names, `NAME-00001-of-00003.gguf` and so
    /// on, in the same folder.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the cause.
    pub fn open_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Model, LoadError> {
        let path = path.as_ref();
        let mut budget = Budget::new(options.budget);
        let meta = std::fs::metadata(path).map_err(|e| LoadErrorKind::Io(e).at(path))?;
        if meta.is_dir() {
            return open_folder(path, None, options, &mut budget);
        }
        match file_kind(path)? {
            FileKind::SafeTensors => open_folder(folder_of(path), Some(path), options, &mut budget),
            FileKind::Gguf => {
                let parts = Parts::open(path, |path| load_file(path, options, &mut budget))?;
                open_gguf(parts, options, &mut budget)
            }
        }
    }

    /// Opens a model from the bytes of a GGUF file, such as those of `include_bytes!`, which are
    /// used in place.
    ///
    /// # Errors
    /// [`LoadError`], which names the cause.
    pub fn from_bytes(
        gguf: impl Into<Cow<'static, [u8]>>,
        options: &LoadOptions,
    ) -> Result<Model, LoadError> {
        let parts = Parts::given(Bytes::Given(gguf.into()));
        open_gguf(parts, options, &mut Budget::new(options.budget))
    }

    /// Hyper-parameters and layers.
    #[must_use]
    pub fn spec(&self) -> &Spec<'static> {
        &self.spec
    }

    /// Family of the model.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// Container of the model.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// Name of the model: `general.name` of a GGUF file, or the name of the folder.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Tokenizer. A model whose tokenizer is missing or not supported still computes logits.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, TokenizerError> {
        self.tokenizer.as_ref().map_err(Clone::clone)
    }

    /// Chat template for conversations without tools, in Jinja as used by transformers: the key
    /// `tokenizer.chat_template` of a GGUF file; for a folder, chat_template.jinja or the default in
    /// tokenizer_config.json.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn chat_template(&self) -> Result<&str, &ChatTemplateError> {
        self.chat_templates.as_ref()?.select(false).ok_or(&ChatTemplateError::Missing)
    }

    /// All chat templates of the model.
    ///
    /// # Errors
    /// The reason why there are none.
    pub fn chat_templates(&self) -> Result<&ChatTemplates, &ChatTemplateError> {
        self.chat_templates.as_ref()
    }

    /// Texts of special tokens that the model's files name for chat templates, such as `pad_token`,
    /// besides what the tokenizer has; `None` for one that they say the model doesn't have.
    #[must_use]
    pub fn special_token_texts(&self) -> &[(String, Option<String>)] {
        &self.special_tokens
    }

    /// Warnings of opening the model: contradictions in its files, and settings without effect, with
    /// what was taken. Each is there once.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Tensor number `id`.
    ///
    /// # Panics
    /// If the model has no such tensor.
    #[must_use]
    pub fn tensor(&self, id: TensorId) -> Tensor<'_> {
        self.view(&self.table[id.index()])
    }

    /// All tensors in order of their numbers, as the table of weights of a plan.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.table.iter().map(|e| self.view(e))
    }

    fn view(&self, e: &Entry) -> Tensor<'_> {
        let bytes = e.bytes(&self.files, &self.owned);
        if e.vector {
            // Aligned: checked by `tensor_table`.
            return Tensor::Vector(bytemuck::cast_slice(bytes));
        }
        let matrix = match e.repacked {
            true => Matrix::repacked(e.format, e.rows(), e.cols(), bytes),
            false => Matrix::from_tensor(e.format, e.rows(), e.cols(), bytes),
        };
        match matrix {
            Ok(matrix) => Tensor::Matrix(with_factors(matrix, e.factors(&self.factors))),
            Err(_) => unreachable!("size and scale of every matrix were checked when loading"),
        }
    }

    /// Format of tensor number `id` in memory; F32 for a vector.
    ///
    /// # Panics
    /// If the model has no such tensor.
    #[must_use]
    pub fn format(&self, id: TensorId) -> Format {
        self.table[id.index()].format
    }

    /// Descriptions of all tensors, in order of their numbers.
    pub fn tensor_infos(&self) -> impl Iterator<Item = TensorInfo> {
        (0u16..).zip(self.spec.slots().zip(&self.table)).map(|(id, (slot, e))| {
            let mut name = String::from(e.prefix);
            match self.container {
                Container::Gguf { .. } => gguf::write_name(self.family, slot.role, &mut name),
                Container::Folder { .. } => {
                    folder::write_name(self.family, &slot, e.form, &mut name)
                }
            }
            let (id, role, rows, cols) = (TensorId::new(id), slot.role, slot.rows, slot.cols);
            let (format, bytes, experts) = (e.format, e.size(), slot.experts);
            let (in_place, repacked) = (e.in_place(), e.repacked);
            TensorInfo { id, role, name, format, experts, rows, cols, bytes, in_place, repacked }
        })
    }

    /// Bytes of the files that contain the weights.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len() as u64).sum()
    }

    /// Bytes of memory that the model allocated: files that were read instead of mapped, and
    /// converted tensors. (For the tokenizer, see [`Tokenizer::memory`].)
    #[must_use]
    pub fn owned_bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|f| f.owned() as u64).sum();
        files + self.owned.len() as u64
    }

    /// Bytes of the matrices that were repacked ([`LoadOptions::repack`]); they are part of
    /// [`Model::owned_bytes`].
    #[must_use]
    pub fn repacked_bytes(&self) -> u64 {
        self.table.iter().filter(|e| e.repacked).map(|e| e.size() as u64).sum()
    }

    /// Bytes that the copies would take if the model were opened with [`LoadOptions::repack`] for this
    /// backend, those that it has included.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use teff_kernels::{Cpu, Scalar};
    /// use teff_runtime::{LoadOptions, Model};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gpt2/model.gguf");
    /// let model = Model::open(path)?;
    /// assert_eq!(model.repack_bytes(Cpu::Scalar(Scalar)), 0); // gains nothing by it
    /// let cpu = Cpu::best();
    /// let repacked = Model::open_with(path, &LoadOptions::default().with_repack(cpu))?;
    /// assert_eq!(repacked.repacked_bytes(), model.repack_bytes(cpu));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn repack_bytes(&self, backend: Cpu) -> u64 {
        let slots = self.spec.slots().zip(&self.table);
        let sizes =
            slots.filter_map(|(slot, e)| repacked_size(&self.spec, &slot, e.format, backend));
        sizes.map(|n| n as u64).sum()
    }

    /// Bytes of the embedding of layers' inputs in a mapped file: a token reads one of its rows, so that
    /// the rest need not be in memory. They are part of [`Model::weight_bytes`].
    #[must_use]
    pub fn lookup_bytes(&self) -> u64 {
        let tables = self.spec.slots().zip(&self.table);
        let tables = tables.filter(|(slot, _)| slot.role == Role::PerLayerEmbd);
        tables.filter(|(_, e)| e.is_mapped(&self.files)).map(|(_, e)| e.size() as u64).sum()
    }

    /// Bytes of all tensors in memory, in place or owned: an upper bound of the weights that a step
    /// reads.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.table.iter().map(|e| e.size() as u64).sum()
    }
}

/// The matrix with factors of its outputs, if there are any: builds without NVFP4 refuse them.
fn with_factors<'a>(matrix: Matrix<'a>, factors: &'a [f32]) -> Matrix<'a> {
    #[cfg(feature = "fp4-quants")]
    if !factors.is_empty() {
        return matrix.with_factors(factors);
    }
    let _ = factors;
    matrix
}

/// Maps or reads a whole file.
fn load_file(path: &Path, options: &LoadOptions, budget: &mut Budget) -> Result<Bytes, LoadError> {
    let io = |e| LoadErrorKind::Io(e).at(path);
    let (file, len) = open_file(path).map_err(io)?;
    let large = || LoadErrorKind::TooLarge { bytes: len }.at(path);
    let n = usize::try_from(len).ok().filter(|&n| n <= isize::MAX as usize).ok_or_else(large)?;
    if options.mmap
        && let Some(bytes) = Bytes::map(&file, n)
    {
        return Ok(bytes);
    }
    budget.take(len).map_err(|kind| kind.at(path))?;
    Bytes::read(&file, n).map_err(|e| match e.kind() {
        io::ErrorKind::OutOfMemory => LoadErrorKind::OutOfMemory { needed: len }.at(path),
        _ => io(e),
    })
}

/// Maps or reads a whole file, without a budget.
pub(crate) fn read_file(path: &Path, options: &LoadOptions) -> Result<Bytes, LoadError> {
    load_file(path, options, &mut Budget::new(None))
}

/// Folder that a file lies in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Kind of a model file.
pub(crate) enum FileKind {
    Gguf,
    SafeTensors,
}

/// Kind of a file by its first bytes.
pub(crate) fn file_kind(path: &Path) -> Result<FileKind, LoadError> {
    let io = |e| LoadErrorKind::Io(e).at(path);
    let (mut file, len) = open_file(path).map_err(io)?;
    let mut first = [0; 9];
    let n = usize::try_from(len).map_or(first.len(), |len| len.min(first.len()));
    file.read_exact(&mut first[..n]).map_err(io)?;
    if first.starts_with(b"GGUF") {
        return Ok(FileKind::Gguf);
    }
    let [header @ .., brace] = first;
    if brace == b'{' && u64::from_le_bytes(header) <= len {
        return Ok(FileKind::SafeTensors);
    }
    let first = Box::new(Name::new(&first[..n.min(8)]));
    let folder = folder_of(path);
    let in_folder = ["config.json", "tokenizer.json"].iter().any(|name| folder.join(name).exists());
    Err(LoadErrorKind::UnknownFile { first, in_folder }.at(path))
}

fn open_gguf(parts: Parts, options: &LoadOptions, budget: &mut Budget) -> Result<Model, LoadError> {
    let parsed = parts.parse()?;
    let at = |kind: LoadErrorKind| LoadError { path: parts.path().map(Into::into), kind };
    let first = &parsed[0];
    if parsed.iter().all(|p| p.n_tensors() == 0) {
        return Err(at(LoadErrorKind::NoTensors));
    }
    let family = gguf::family(first).map_err(at)?;
    let mut tensors = GgufTensors::new(&parsed, family).map_err(at)?;
    let (spec, notices) = tensors.spec().map_err(at)?;
    let warnings = Warning::of_notices(&notices, |key| warning::value_text(first, key));
    let table = tensor_table::with_head(spec, &mut tensors, options).and_then(|spec| {
        let files = parts.files();
        let table = tensor_table::tensor_table(&spec, &mut tensors, files, options, budget)?;
        Ok((spec, table))
    });
    let (spec, TensorTable { table, owned, factors }) = table.map_err(at)?;
    drop(tensors);
    let name = match first.get("general.name") {
        Some(Value::Str(name)) => Some(name.to_owned()),
        _ => None,
    };
    let tokenizer = Tokenizer::from_gguf(first);
    let chat_templates = template::of_gguf(first);
    let special_tokens = special::of_gguf(first, tokenizer.as_ref().ok());
    let container = Container::Gguf { version: first.version(), files: parsed.len() };
    drop(parsed);
    let files = parts.into_files();
    Ok(Model {
        spec,
        family,
        container,
        name,
        tokenizer,
        chat_templates,
        special_tokens,
        warnings,
        files,
        owned,
        table,
        factors,
    })
}

/// Drops a head that equals the embedding to which the file ties it, and the notice about it.
fn settle_head(
    spec: Spec<'static>,
    notices: &mut Vec<Notice>,
    tensors: &mut dyn tensor_table::Container,
    files: &[Bytes],
) -> Result<Spec<'static>, LoadErrorKind> {
    if !notices.iter().any(|n| n.rule == Rule::HeadKept)
        || !tensor_table::head_is_embedding(&spec, tensors, files)?
    {
        return Ok(spec);
    }
    notices.retain(|n| n.rule != Rule::HeadKept);
    Ok(Spec { head: Head::Tied, ..spec })
}

/// Opens the model of a folder, or of one SafeTensors file in it.
fn open_folder(
    folder: &Path,
    weights: Option<&Path>,
    options: &LoadOptions,
    budget: &mut Budget,
) -> Result<Model, LoadError> {
    let all = FolderFiles::open(folder, weights, options, budget)?;
    let in_config = |e| LoadErrorKind::Config(e).at(&all.config);
    let config = Config::parse(&all.config_json).map_err(in_config)?;
    let family = config.family().map_err(in_config)?;
    let packing =
        Packing::of(family, &config).map_err(|e| LoadErrorKind::Spec(e).at(&all.config))?;
    let mut tensors = all.tensors(family, packing, config.is_wrapped())?;
    let (text, mut room) = (config.text(), SpecRoom::new());
    let spec = (family.from_config)(&text, &tensors, &mut room);
    let spec = spec.map_err(|e| LoadErrorKind::Spec(e).at(&all.config))?.to_owned();
    let mut notices = room.notices().to_vec();
    if text.unties_head() {
        notices.retain(|n| n.rule != Rule::HeadKept);
    }
    let at_folder = |kind: LoadErrorKind| kind.at(folder);
    let spec = settle_head(spec, &mut notices, &mut tensors, &all.files).map_err(at_folder)?;
    let spec = tensor_table::with_head(spec, &mut tensors, options).map_err(at_folder)?;
    let table = tensor_table::tensor_table(&spec, &mut tensors, &all.files, options, budget);
    let TensorTable { table, owned, factors } = table.map_err(at_folder)?;
    let found = |key: &str| text.value_text(key).map(str::to_owned);
    let mut warnings = Warning::of_notices(&notices, found);
    if config.is_of_two_classes() {
        let key = "model_type";
        let found = config.value_text(key).unwrap_or_default();
        let taken =
            format!("the class `{}` of `architectures`", config.class().unwrap_or_default());
        let why = "llama.cpp's converter goes by it; transformers goes by `model_type`";
        warnings.push(Warning::new(key, found, taken, why));
    }
    warnings.extend(all.beside(folder, weights));
    warnings.extend(all.converted().cloned());
    if let Some((count, name)) = tensors.other_parts() {
        warnings.push(Warning::new(
            name,
            match count {
                1 => "a tensor that is not the text model's".into(),
                n => format!("one of {n} tensors that are not the text model's"),
            },
            "the text model alone",
            "Teff reads texts and no images",
        ));
    }
    drop(tensors);
    let tokenizer = Tokenizer::from_folder(folder);
    let chat_templates = template::of_folder(folder);
    let special_tokens = special::of_folder(folder);
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let container = Container::Folder { files: all.weights() };
    let files = all.files;
    Ok(Model {
        spec,
        family,
        container,
        name,
        tokenizer,
        chat_templates,
        special_tokens,
        warnings,
        files,
        owned,
        table,
        factors,
    })
}
